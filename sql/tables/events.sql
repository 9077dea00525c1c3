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
        and greatest(occurred_at, recorded_at) < '9999-12-30 00:00+00'),
    -- No agent is given the event before this moment. Last, as databases made before it have it.
    deliver_after timestamptz
        constraint events_deliver_after_is_a_time check (deliver_after < '9999-12-30 00:00+00')
);

-- The sequencer's range scans.
create index events_by_transaction on wakelog.events (xid);

-- Whether anything is delayed at this moment: most claims ask no more than that.
create index events_delayed on wakelog.events (deliver_after) where deliver_after is not null;

-- All events of one workflow. An event without a correlation begins one, under its own id.
create index events_by_correlation on wakelog.events ((coalesce(correlation_id, id::text)));
