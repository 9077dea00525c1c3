-- Deliveries given up, with the event and the record of every attempt. The events are looked up (offset 0): the planner
-- would rather walk the log from its beginning to where they lie.
create or replace view wakelog.dead_letters as
select a.name as agent,
       d.position,
       e.id as event_id,
       e.type,
       e.source,
       e.stream,
       coalesce(e.correlation_id, e.id::text) as correlation_id,
       d.reason,
       d.error,
       d.attempts,
       d.stalled,
       d.failures,
       d.first_claimed_at,
       d.died_at,
       e.payload
from wakelog.dead d
join wakelog.agents a on a.id = d.agent_id
cross join lateral (
    select v.* from wakelog.log l join wakelog.events v on v.seq = l.seq where l.position = d.position offset 0) e
order by d.died_at, a.name, d.position;
