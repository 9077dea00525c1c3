-- The event of a source that carries an idempotency key; null where there is none.
--
-- A transaction that appends many events keeps the plan it began with, made when the log may have had a few rows only, so
-- the plan is fixed on the index. Its cost then looks so high that JIT would compile it.
create or replace function wakelog.event_of_key(p_source text, p_idempotency_key text) returns wakelog.events
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_event wakelog.events;
begin
    select e.* into v_event from wakelog.events e
    where e.source = p_source and e.idempotency_key = p_idempotency_key;
    return v_event;
end
$$;
