-- How far each agent has claimed: everything it wants at or below position has been handed out.
-- A claim locks this row, so one claim per agent runs at a time.
create table wakelog.cursors (
    agent_id integer not null
        constraint cursors_one_per_agent primary key
        constraint cursors_of_an_agent references wakelog.agents on delete cascade,
    position bigint not null
        constraint cursors_position_is_not_negative check (position >= 0)
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
