-- Everything of one correlation, oldest first: its events, and what each agent did about them.
-- select * from wakelog.timeline where correlation_id = '...'
-- What is in hand and what is dead is looked up for each agent, not read as a whole for what is of one workflow.
create or replace view wakelog.timeline as
with event as not materialized (
    select coalesce(e.correlation_id, e.id::text) as correlation_id, l.position, e.id, e.type, e.source,
           e.causation_id, e.payload, l.sequenced_at
    from wakelog.events e join wakelog.log l on l.seq = e.seq
)
select e.correlation_id, e.sequenced_at as at, 'event' as what, e.type as name, null as outcome,
       null::integer as attempts, null::interval as took, null::bigint as worker, e.position,
       e.id as event_id, e.causation_id, e.payload as detail
from event e
union all
select e.correlation_id, h.finished_at, 'delivery', a.name, h.outcome, h.attempts,
       h.finished_at - h.started_at, h.worker, e.position, e.id, e.causation_id, h.failures
from event e join wakelog.history h on h.position = e.position join wakelog.agents a on a.id = h.agent_id
union all
select e.correlation_id, d.claimed_at, 'delivery', a.name,
       case when d.worker is null then 'waiting' else 'running' end, d.attempt,
       wakelog.clock() - d.claimed_at, d.worker, e.position, e.id, e.causation_id, d.failures
from event e cross join wakelog.agents a
cross join lateral (
    select * from wakelog.deliveries w where w.agent_id = a.id and w.position = e.position offset 0) d
union all
select e.correlation_id, d.died_at, 'delivery', a.name, 'dead', d.attempts, d.died_at - d.first_claimed_at,
       null, e.position, e.id, e.causation_id, d.failures
from event e cross join wakelog.agents a
cross join lateral (
    select * from wakelog.dead w where w.agent_id = a.id and w.position = e.position offset 0) d
order by 2, 9, 3 desc;
