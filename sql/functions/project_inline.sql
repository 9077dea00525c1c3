-- Trigger, after an insert statement, for an inline projection: fold the inserted events, in the producer's
-- transaction. Its arguments are the build, its schema and the statements, so that only who may make a trigger on
-- wakelog.events says what is run here with its owner's rights.
--
-- An event that cannot be folded stops the projection and not the producer: the error is recorded, and nothing more is
-- folded until it is rebuilt. What the producer must see, because trying again helps, is raised.
create or replace function wakelog.project_inline() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_build integer := tg_argv[0]::integer;
begin
    if not exists (select from new_events)
       or exists (select from wakelog.checkpoints c where c.build_id = v_build and c.error is not null) then
        return null;
    end if;
    begin
        perform set_config('search_path', format('%I, pg_temp', tg_argv[1]), true);
        for v_n in 2 .. tg_nargs - 1 loop
            execute tg_argv[v_n];
        end loop;
        perform set_config('search_path', 'pg_catalog, pg_temp', true);
    exception
        when others then
            if left(sqlstate, 2) in ('40', '53', '57', 'WL') or sqlstate = '55P03' then
                raise;
            end if;
            perform set_config('search_path', 'pg_catalog, pg_temp', true);
            update wakelog.checkpoints c
            set error = sqlerrm, failed_at = wakelog.clock(), failed_seq = (select min(n.seq) from new_events n)
            where c.build_id = v_build and c.error is null;
    end;
    return null;
end
$$;
