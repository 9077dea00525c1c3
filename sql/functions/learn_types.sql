-- Enter the types that appear for the first time, and the agents whose patterns they match.
-- Runs under the sequencer's lock, as does the registration of agents, so neither misses the other.
create or replace function wakelog.learn_types(p_last wakelog.sequencer, p_now pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    with known as (
        insert into wakelog.types (type, first_position)
        select distinct u.type, p_last.head + 1
        from wakelog.unsequenced(p_last.snapshot, p_now, p_last.rebased_seq) u
        where not exists (select from wakelog.types t where t.type = u.type)
        returning id, type
    )
    insert into wakelog.agent_types (agent_id, type_id)
    select a.id, k.id
    from known k
    join wakelog.agents a on '.' || k.type ~ a.type_regex
    where k.type not in (a.name || '.completed', a.name || '.failed');
end
$$;
