-- The doorkeeper's look: sequence, commit, and ring, where there is more in the log than p_rung, or p_slow.
-- p_rung becomes how far the log reached when workers were rung. p_found is how many events were sequenced, null
-- where another session was at it: then some may be left, and it is too early to sleep. p_due_in, after a
-- ring, is the seconds until the next postponed delivery is due.
-- A procedure, so that one round trip holds two transactions.
create or replace procedure wakelog.look(
    p_slow boolean, inout p_rung bigint, inout p_found bigint default null,
    inout p_due_in double precision default null
)
language plpgsql
as $$
declare
    v_head bigint;
begin
    p_found := wakelog.sequence();
    p_due_in := null;
    commit;
    v_head := wakelog.head();
    if v_head operator(pg_catalog.<>) p_rung or p_slow then
        p_rung := v_head;
        p_due_in := extract(epoch from wakelog.ring() operator(pg_catalog.-) wakelog.clock());
    end if;
end
$$;
