alter table wakelog.agents
    add column dedupe_by text,
    add column dedupe_mode text
        constraint agents_dedupe_in_a_known_mode
        check (dedupe_mode in ('simple', 'throttle', 'debounce', 'keep_last')),
    add column dedupe_window interval
        constraint agents_dedupe_window_is_positive check (dedupe_window > '0'),
    add constraint agents_dedupe_is_whole check (
        (dedupe_by is null) = (dedupe_mode is null)
        and (dedupe_window is not null) = (coalesce(dedupe_mode, '') in ('throttle', 'debounce')));

create table wakelog.dedupe_windows (
    agent_id integer not null
        constraint dedupe_windows_of_an_agent references wakelog.agents on delete cascade,
    key text not null,
    opened_at timestamptz not null,
    constraint dedupe_windows_one_per_key primary key (agent_id, key)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create index dedupe_windows_by_time on wakelog.dedupe_windows (agent_id, opened_at);
