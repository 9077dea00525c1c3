-- The doorkeeper's look: sequence, commit, and ring where something was found or p_slow says so.
-- p_found is how many events were sequenced; p_due_in, after a ring, the seconds until the next postponed
-- delivery is due. A procedure, so that one round trip holds two transactions.
create or replace procedure wakelog.look(
    p_slow boolean, inout p_found bigint default null, inout p_due_in double precision default null
)
language plpgsql
as $$
begin
    p_found := coalesce(wakelog.sequence(), 0);
    p_due_in := null;
    if p_found > 0 or p_slow then
        commit;
        p_due_in := extract(epoch from wakelog.ring() operator(pg_catalog.-) wakelog.clock());
    end if;
end
$$;
