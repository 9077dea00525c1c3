-- What each agent wants and how it is to be treated. Written when an agent is registered; what changes
-- with every claim is in wakelog.cursors.
create table wakelog.agents (
    id integer generated always as identity
        constraint agents_by_id primary key,
    name text not null
        constraint agents_one_per_name unique
        constraint agents_name_is_dotted_words
        check (name ~ '^[A-Za-z0-9_:=-]+(\.[A-Za-z0-9_:=-]+)*$' and octet_length(name) <= 200),
    types text[] not null
        constraint agents_want_some_type check (cardinality(types) > 0),
    sources text[],
    metadata jsonb,
    payload_path jsonpath,
    -- What orders its work: stream, correlation, source, metadata.<path> or payload.<path>; null for nothing.
    ordered_by text,
    -- Derived from types and sources when the agent is registered; null means all.
    type_regex text,
    source_regex text,
    timeout interval not null default '5 minutes'
        constraint agents_timeout_is_positive check (timeout > '0'),
    max_attempts integer not null default 5
        constraint agents_try_at_least_once check (max_attempts > 0),
    max_stalled integer not null default 10
        constraint agents_max_stalled_is_not_negative check (max_stalled >= 0),
    backoff jsonb not null default '{"kind": "exponential", "delay": 1, "max": 300, "jitter": 0}',
    concurrency integer
        constraint agents_concurrency_is_positive check (concurrency > 0),
    -- At most rate_count starts in any rate_window.
    rate_count integer
        constraint agents_rate_is_positive check (rate_count > 0),
    rate_window interval
        constraint agents_rate_window_is_positive check (rate_window > '0'),
    -- How old an event may be and still be worked on.
    expires interval
        constraint agents_expiry_is_positive check (expires > '0'),
    keeps_history boolean not null default true,
    created_at timestamptz not null default clock_timestamp(),
    updated_at timestamptz not null default clock_timestamp(),
    paused_at timestamptz,
    constraint agents_rate_is_whole check ((rate_count is null) = (rate_window is null)),
    -- Events with the same value of dedupe_by may stand for one another: how, and for how long.
    dedupe_by text,
    dedupe_mode text
        constraint agents_dedupe_in_a_known_mode
        check (dedupe_mode in ('simple', 'throttle', 'debounce', 'keep_last')),
    dedupe_window interval
        constraint agents_dedupe_window_is_positive check (dedupe_window > '0'),
    constraint agents_dedupe_is_whole check (
        (dedupe_by is null) = (dedupe_mode is null)
        and (dedupe_window is not null) = (coalesce(dedupe_mode, '') in ('throttle', 'debounce'))),
    -- How many unfinished events it may have, and what becomes of more.
    capacity integer
        constraint agents_capacity_is_positive check (capacity > 0),
    overflow text not null default 'refuse'
        constraint agents_overflow_in_a_known_way check (overflow in ('refuse', 'drop_oldest'))
);
