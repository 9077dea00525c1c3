-- Everything Wakelog owns lives in this one schema. Two logs are two databases.
create schema if not exists wakelog;

-- Three roles for applications to be granted; none can log in. Roles belong to the whole cluster, so
-- another database may have made them, at this very moment too. Where the migrating account may not
-- create roles (managed Postgres), the schema works without them and grants are made by hand.
do $$
declare
    v_role text;
begin
    foreach v_role in array array['wakelog_writer', 'wakelog_reader', 'wakelog_worker'] loop
        begin
            if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
                execute pg_catalog.format('create role %I nologin', v_role);
            end if;
        exception
            when duplicate_object or unique_violation then null;
            when insufficient_privilege then
                raise warning 'role % was not created: % may not create roles', v_role, current_user;
        end;
    end loop;
end
$$;

-- A version 7 UUID (RFC 9562): 48 bits of milliseconds, then random; new ids land at the right edge of
-- their index. Postgres 18 has its own; this one serves 14 to 17 as well.
create or replace function wakelog.uuid7() returns uuid
language sql volatile parallel safe
return encode(
    set_bit(
        set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                from 1 for 6
            ),
            52, 1
        ),
        53, 1
    ),
    'hex'
)::uuid;

-- The system of record: append-only, one row per event, inserted by any application in its own
-- transaction. Everything but the type has a default.
--
-- seq is the order of insertion, not of visibility, and has holes; readers follow wakelog.log instead.
-- xid is the inserting transaction; the sequencer compares it with snapshots.
create table wakelog.events (
    seq bigint generated always as identity
        constraint events_by_seq primary key,
    id uuid not null default wakelog.uuid7()
        constraint events_one_per_id unique,
    xid xid8 not null default pg_current_xact_id(),
    type text not null
        constraint events_type_is_dotted_words
        check (type ~ '^[^[:space:].*#]+(\.[^[:space:].*#]+)*$' and octet_length(type) <= 255),
    source text not null default '',
    stream text
        constraint events_stream_is_not_empty check (stream <> ''),
    version bigint
        constraint events_version_is_positive check (version > 0),
    payload jsonb not null default '{}',
    metadata jsonb not null default '{}'
        constraint events_metadata_is_an_object check (jsonb_typeof(metadata) = 'object'),
    correlation_id text
        constraint events_correlation_is_not_empty check (correlation_id <> ''),
    causation_id uuid,
    idempotency_key text
        constraint events_idempotency_key_is_not_empty check (idempotency_key <> ''),
    schema_version integer not null default 1,
    occurred_at timestamptz not null default clock_timestamp(),
    recorded_at timestamptz not null default clock_timestamp(),
    constraint events_one_per_version unique (stream, version),
    constraint events_one_per_key unique (source, idempotency_key),
    constraint events_version_belongs_to_a_stream check (version is null or stream is not null),
    -- What programs can read, in any time zone: infinity and the year 20000 would stop those that try.
    constraint events_times_are_in_years_1_to_9999 check (
        least(occurred_at, recorded_at) >= '0001-01-03 00:00+00'
        and greatest(occurred_at, recorded_at) < '9999-12-30 00:00+00')
);

-- The sequencer's range scans.
create index events_by_transaction on wakelog.events (xid);

-- All events of one workflow. An event without a correlation begins one, under its own id.
create index events_by_correlation on wakelog.events ((coalesce(correlation_id, id::text)));

-- The sequencer's memory, one row: how far the log reaches, and the snapshot up to which every
-- committed event has its position. The system identifier tells a restored copy from the cluster
-- whose transaction ids the snapshot speaks of.
create table wakelog.sequencer (
    one boolean not null default true
        constraint sequencer_is_one_row primary key
        constraint sequencer_one_is_true check (one),
    head bigint not null default 0,
    snapshot pg_snapshot not null default '1:1:',
    system_identifier bigint not null,
    -- Events up to this seq were placed by a rebase: their xids are another cluster's.
    rebased_seq bigint not null default 0,
    sequenced_at timestamptz not null default '-infinity'
);

insert into wakelog.sequencer (system_identifier)
select system_identifier from pg_catalog.pg_control_system();

-- Every event type seen so far, with the last position of each: a claim can tell, without reading the
-- log, that nothing for its agent has happened since.
create table wakelog.types (
    id integer generated always as identity
        constraint types_by_id primary key,
    type text not null
        constraint types_one_per_name unique,
    first_position bigint not null,
    last_position bigint not null
) with (fillfactor = 50);

-- The order of the log. Positions are handed out after commit, gapless, and never change.
-- sequenced_at never decreases with position, so a moment has a position (wakelog.position_at).
create table wakelog.log (
    position bigint not null
        constraint log_by_position primary key,
    seq bigint not null
        constraint log_one_position_per_event unique,
    type_id integer not null,
    sequenced_at timestamptz not null
);

create index log_by_type on wakelog.log (type_id, position);

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
    constraint agents_rate_is_whole check ((rate_count is null) = (rate_window is null))
);

-- Which types an agent's patterns come to, resolved when a type first appears or the agent changes.
-- Agents that want every type have no rows here.
create table wakelog.agent_types (
    agent_id integer not null
        constraint agent_types_of_an_agent references wakelog.agents on delete cascade,
    type_id integer not null,
    constraint agent_types_once primary key (agent_id, type_id)
);

-- When work was handed out for agents that have a rate, for as long as their window looks back.
create table wakelog.starts (
    agent_id integer not null
        constraint starts_of_an_agent references wakelog.agents on delete cascade,
    started_at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create index starts_by_time on wakelog.starts (agent_id, started_at);

-- How far each agent has claimed: everything it wants at or below position has been handed out.
-- A claim locks this row, so one claim per agent runs at a time.
create table wakelog.cursors (
    agent_id integer not null
        constraint cursors_one_per_agent primary key
        constraint cursors_of_an_agent references wakelog.agents on delete cascade,
    position bigint not null
        constraint cursors_position_is_not_negative check (position >= 0)
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- The working set: one row for each event that is with a worker or waits for another try. Rows appear at
-- claim time and go when the work is done, so a backlog of any size costs nothing here.
--
-- worker is null while a delivery waits. available_at says when it may next be claimed: the end of the
-- lease while a worker has it, the time of the next try while it waits.
-- (worker, attempt) fences: whoever does not hold both can change nothing.
-- key is what an ordered agent's work is ordered by: of the rows of one key, only the first may be with a
-- worker or wait for a time; the others stand in line behind it, available at infinity.
-- attempt counts claims that were not given back; stalled, those that ended with no word from the worker.
create table wakelog.deliveries (
    agent_id integer not null,
    position bigint not null,
    worker bigint,
    attempt integer not null,
    stalled integer not null default 0,
    available_at timestamptz not null,
    claimed_at timestamptz not null,
    first_claimed_at timestamptz not null,
    failures jsonb,
    key text,
    constraint deliveries_one_per_agent_and_event primary key (agent_id, position)
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);

create index deliveries_by_availability on wakelog.deliveries (agent_id, available_at);

-- When the next postponed delivery is due.
create index deliveries_waiting on wakelog.deliveries (available_at)
where worker is null and available_at < 'infinity';

-- The line of each key.
create index deliveries_in_line on wakelog.deliveries (agent_id, key, position) where key is not null;

-- Deliveries given up: every attempt failed, the handler said not to try again, workers kept dying
-- over it, or it had become too old. They wait here for a person (wakelog dead list | retry | discard).
create table wakelog.dead (
    agent_id integer not null,
    position bigint not null,
    attempts integer not null,
    stalled integer not null,
    reason text not null
        constraint dead_for_a_known_reason check (reason in ('max_attempts', 'do_not_retry', 'stalled', 'expired')),
    error text,
    failures jsonb,
    first_claimed_at timestamptz not null,
    died_at timestamptz not null,
    constraint dead_one_per_agent_and_event primary key (agent_id, position)
);

-- Finished deliveries, in a partition per day (UTC), so that old history goes by dropping tables.
-- Rows of a day that has no partition yet are kept in the default one until it is made.
create table wakelog.history (
    agent_id integer not null,
    position bigint not null,
    attempts integer not null,
    stalled integer not null,
    worker bigint,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    outcome text not null,
    failures jsonb
) partition by range (finished_at);

create index history_by_position on wakelog.history (position);

create table wakelog.history_default partition of wakelog.history default;

-- Who works. A worker that holds a session advisory lock for its life (locked) is known to be dead the
-- moment its connection goes; others, as a shell script, only by their leases.
-- room is how many more deliveries it could take while asleep, waiting to be rung.
create sequence wakelog.worker_ids as integer;

create table wakelog.worker_sessions (
    id bigint not null default nextval('wakelog.worker_ids')
        constraint worker_sessions_by_id primary key,
    name text not null,
    agents text[] not null,
    locked boolean not null,
    pid integer,
    asleep boolean not null default false,
    room integer not null default 0,
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Memoised pieces of handlers' work: what a step returned, once, whatever happens to the worker after.
create table wakelog.steps (
    agent_id integer not null,
    position bigint not null,
    name text not null,
    result jsonb not null,
    finished_at timestamptz not null default clock_timestamp(),
    constraint steps_once_per_delivery primary key (agent_id, position, name)
);

-- A delivery as a worker gets it: what fences it, what is known about it, and the whole event.
create type wakelog.claimed as (
    position bigint,
    attempt integer,
    stalled integer,
    lease_until timestamptz,
    timeout interval,
    sequenced_at timestamptz,
    id uuid,
    type text,
    source text,
    stream text,
    version bigint,
    payload jsonb,
    metadata jsonb,
    correlation_id text,
    causation_id uuid,
    idempotency_key text,
    schema_version integer,
    occurred_at timestamptz,
    recorded_at timestamptz
);
