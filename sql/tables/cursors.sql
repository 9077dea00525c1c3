-- How far each agent has claimed: everything it wants at or below position has been handed out. One row per agent,
-- kept by wakelog.register_agent. A claim locks it, so one claim per agent runs at a time.
--
-- It changes with every claim, and where somebody holds an old snapshot open, none of its former versions can be
-- cleaned up. So it is read from the newest on (wakelog.lock_cursor), by the number of times it has moved: the others
-- are never looked at. No unique constraint: it would look at all of them.
--
-- Leases that ended up to swept_at have been noticed (wakelog.notice_lapsed).
create table wakelog.cursors (
    agent_id integer not null
        constraint cursors_of_an_agent references wakelog.agents on delete cascade,
    position bigint not null
        constraint cursors_position_is_not_negative check (position >= 0),
    moved bigint not null default 0,
    swept_at timestamptz not null default '-infinity'
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create index cursors_newest on wakelog.cursors (agent_id, moved);
