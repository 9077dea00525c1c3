-- For agents that throttle: when the window of each key was opened, by the event that was let through.
create table wakelog.dedupe_windows (
    agent_id integer not null
        constraint dedupe_windows_of_an_agent references wakelog.agents on delete cascade,
    key text not null,
    opened_at timestamptz not null,
    constraint dedupe_windows_one_per_key primary key (agent_id, key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create index dedupe_windows_by_time on wakelog.dedupe_windows (agent_id, opened_at);
