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
