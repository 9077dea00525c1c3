-- Append many events at once, in the order given, and return them in that order as they stand in the log.
--
-- p_events is an array of objects whose keys are the arguments of wakelog.append without p_, among them
-- expected_version. All or nothing: one version conflict (WL001) refuses them all.
create or replace function wakelog.append_many(p_events jsonb) returns setof wakelog.events
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event record;
begin
    if jsonb_typeof(p_events) is distinct from 'array' then
        raise exception 'append_many expects a JSON array of events, found %',
            coalesce(jsonb_typeof(p_events), 'null') using errcode = 'WL006';
    end if;
    perform wakelog.lock_streams(array_agg(a.event ->> 'stream'))
    from jsonb_array_elements(p_events) as a (event)
    where a.event ->> 'stream' is not null
    having count(*) > 1;

    for v_event in
        select r.* from jsonb_array_elements(p_events) with ordinality as a (event, ordinal)
        cross join lateral jsonb_to_record(a.event) as r (
            type text, payload jsonb, stream text, expected_version bigint, source text,
            idempotency_key text, metadata jsonb, correlation_id text, causation_id uuid,
            schema_version integer, occurred_at timestamptz, id uuid, deliver_after timestamptz
        )
        order by a.ordinal
    loop
        return query select a.* from wakelog.append(
            v_event.type, v_event.payload, v_event.stream, v_event.expected_version, v_event.source,
            v_event.idempotency_key, v_event.metadata, v_event.correlation_id, v_event.causation_id,
            v_event.schema_version, v_event.occurred_at, v_event.id, v_event.deliver_after
        ) as a;
    end loop;
end
$$;
