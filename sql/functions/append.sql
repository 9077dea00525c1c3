-- Append one event in the caller's transaction and return it as it stands in the log.
--
-- p_expected_version: the version the stream must be at, 0 for a stream that must be new; otherwise
-- WL001, and nothing is appended. p_idempotency_key: an event of this source that already carries the
-- key is returned as it is, and nothing is appended; its payload and metadata only to those who may read events.
-- p_deliver_after: no agent is given the event before this moment.
-- p_backpressure: what to do where an agent's capacity is reached: refuse (WL008), wait, or wait so many seconds; null for
-- what the setting wakelog.backpressure says.
create or replace function wakelog.append(
    p_type text,
    p_payload jsonb default '{}',
    p_stream text default null,
    p_expected_version bigint default null,
    p_source text default '',
    p_idempotency_key text default null,
    p_metadata jsonb default '{}',
    p_correlation_id text default null,
    p_causation_id uuid default null,
    p_schema_version integer default 1,
    p_occurred_at timestamptz default null,
    p_id uuid default null,
    p_deliver_after timestamptz default null,
    p_backpressure text default null
) returns wakelog.events
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event wakelog.events;
    v_version bigint;
    v_backpressure text;
begin
    if starts_with(p_idempotency_key, 'wakelog:') then
        raise exception 'expected an idempotency key that does not begin with "wakelog:", found "%"',
            p_idempotency_key using errcode = 'WL006';
    end if;
    if p_idempotency_key is not null then
        v_event := wakelog.event_of_key(coalesce(p_source, ''), p_idempotency_key);
        if v_event.id is not null then
            return wakelog.as_may_be_read(v_event);
        end if;
    end if;

    if p_expected_version is not null then
        v_version := wakelog.expect_version(p_stream, p_expected_version) + 1;
    end if;

    if p_backpressure is not null then
        v_backpressure := coalesce(current_setting('wakelog.backpressure', true), '');
        perform set_config('wakelog.backpressure', p_backpressure, true);
    end if;
    insert into wakelog.events (
        id, type, source, stream, version, payload, metadata, correlation_id, causation_id,
        idempotency_key, schema_version, occurred_at, deliver_after
    ) values (
        coalesce(p_id, wakelog.uuid7()), p_type, coalesce(p_source, ''), p_stream, v_version,
        coalesce(p_payload, '{}'), coalesce(p_metadata, '{}'), p_correlation_id, p_causation_id,
        p_idempotency_key, coalesce(p_schema_version, 1), coalesce(p_occurred_at, clock_timestamp()),
        p_deliver_after
    )
    on conflict (source, idempotency_key) do nothing
    returning * into v_event;

    if p_backpressure is not null then
        perform set_config('wakelog.backpressure', v_backpressure, true);
    end if;

    -- Another transaction has just committed an event with this key.
    if v_event.id is null then
        return wakelog.as_may_be_read(wakelog.event_of_key(coalesce(p_source, ''), p_idempotency_key));
    end if;
    return v_event;
end
$$;
