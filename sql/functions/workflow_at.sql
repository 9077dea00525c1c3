-- A workflow as it was when the log had reached a position, or at a moment; without either, as it is now. Each event that
-- existed, the shared past of a fork among them, with a row for each agent that was to work on it: state is finished,
-- running, waiting (for its first try, or its next) or failed; steps are those done by then. cause is the event that led
-- to it, or the copy that stands for that one here.
-- select * from wakelog.workflow_at('0198c0de-...', 812)
create or replace function wakelog.workflow_at(
    p_correlation text, p_position bigint default null, p_at timestamptz default null
) returns table (
    "position" bigint, event_id uuid, type text, source text, payload jsonb, correlation_id text, causation_id uuid,
    cause uuid, original uuid, shared boolean, entered_at timestamptz, agent text, state text, outcome text, attempts integer,
    worker bigint, started_at timestamptz, ended_at timestamptz, error text, failures jsonb, steps text[]
)
language plpgsql stable rows 100
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
as $$
declare
    v_upto bigint := coalesce(p_position, case when p_at is not null then wakelog.position_at(p_at) end, 9223372036854775807);
    v_as_of timestamptz := coalesce(
        p_at, case when p_position is not null then wakelog.moment_of(p_position) end, 'infinity');
begin
    if p_position is not null and p_at is not null then
        raise exception 'expected a position or a time, found both (% and %)', p_position, p_at using errcode = 'WL006';
    end if;
    return query
    with event as materialized (
        select w.* from wakelog.workflow_events(p_correlation, v_upto) w
    ),
    cause as materialized (
        select w.position, coalesce(k.first_seq, c.seq) as first_seq
        from event w
        cross join lateral (select c.seq from wakelog.events c where c.id = w.causation_id offset 0) c
        left join lateral (select k.first_seq from wakelog.copies k where k.seq = c.seq offset 0) k on true
    )
    select w.position, w.id, w.type, w.source, w.payload, w.correlation_id, w.causation_id, v.id, w.original, w.shared,
           w.sequenced_at, d.agent, d.state, d.outcome, d.attempts, d.worker, d.started_at, d.ended_at, d.error, d.failures,
           array(select s.name from wakelog.agents a cross join wakelog.steps_of(a.id, w.position) s
                 where a.name = d.agent and s.finished_at <= least(w.as_of, v_as_of)
                 order by s.finished_at, s.name)
    from event w
    left join wakelog.workflow_as_of(p_correlation, v_upto, v_as_of) d on d.position = w.position
    left join cause c on c.position = w.position
    left join event v on v.first_seq = c.first_seq
    order by w.position, d.agent;
end
$$;
