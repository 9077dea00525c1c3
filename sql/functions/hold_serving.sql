-- Have what serves of a build's projection stand still until the end of this transaction, so that the build can be
-- folded as far and take its place (wakelog.serve_build). The first statement of its transaction.
--
-- An inline projection stands still when nobody appends. So appends wait, those that are under way are waited for (0.2 s,
-- then 55P03 and nothing has happened), and everything committed is given its position: above the head there is then
-- nothing, and whatever comes after this transaction fires the trigger that was made in it.
create or replace function wakelog.hold_serving(p_build integer) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_projection wakelog.projections;
begin
    select p.* into v_projection from wakelog.projection_builds b
    join wakelog.projections p on p.id = b.projection_id where b.id = p_build;
    perform set_config('lock_timeout', case v_projection.mode when 'inline' then '200ms' else '2s' end, true);
    if v_projection.mode = 'inline' then
        perform pg_advisory_xact_lock(wakelog.lock_space('sequencer'), 0);
        lock table wakelog.events in share row exclusive mode;
        perform wakelog.sequence();
    end if;
    perform from wakelog.projections p where p.id = v_projection.id for update;
    perform from wakelog.checkpoints c
    where c.build_id = (select b.id from wakelog.projection_builds b
                        where b.projection_id = v_projection.id and b.state = 'serving')
    order by c.part for update;
end
$$;
