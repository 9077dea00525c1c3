-- Append the event that stands, in a fork, for one of the parent's: with the same type, source, payload and time, and the
-- same cause or its copy. It goes to a stream of the fork's own, so that the entity's stream is left alone, and carries
-- no idempotency key, which is taken.
create or replace function wakelog.copy_event(
    p_fork text, p_parent text, p_seq bigint, p_payload jsonb, p_agents text[]
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_hashjoin = off
set enable_mergejoin = off
set enable_bitmapscan = off
set jit = off
as $$
declare
    v_seq bigint := nextval('wakelog.events_seq_seq');
    v_event wakelog.events;
    v_first_seq bigint := coalesce((select c.first_seq from wakelog.copies c where c.seq = p_seq), p_seq);
    v_cause_seq bigint;
    v_cause uuid;
    v_stream text;
    v_version bigint;
begin
    select e.* into strict v_event from wakelog.events e where e.seq = p_seq;
    select coalesce(c.first_seq, e.seq) into v_cause_seq
    from wakelog.events e left join wakelog.copies c on c.seq = e.seq
    where e.id = v_event.causation_id;
    select e.id into v_cause
    from wakelog.copies c join wakelog.events e on e.seq = c.seq
    where c.correlation_id = p_fork and c.first_seq = v_cause_seq;
    select e.stream || '@' || p_fork into v_stream from wakelog.events e where e.seq = v_first_seq;
    if v_stream is not null then
        v_version := wakelog.stream_version(v_stream) + 1;
    end if;

    -- First, so that nobody is asked to make room for an event that is not for them.
    insert into wakelog.copies (seq, correlation_id, original_seq, first_seq, agents)
    values (v_seq, p_fork, p_seq, v_first_seq, p_agents);
    insert into wakelog.events (
        seq, type, source, stream, version, payload, metadata, correlation_id, causation_id, schema_version, occurred_at,
        deliver_after
    )
    overriding system value
    values (
        v_seq, v_event.type, v_event.source, v_stream, v_version, p_payload,
        v_event.metadata || jsonb_build_object(
            'forked_from', jsonb_build_object('workflow', p_parent, 'event', v_event.id)),
        p_fork, coalesce(v_cause, v_event.causation_id), v_event.schema_version, v_event.occurred_at,
        v_event.deliver_after
    );
end
$$;
