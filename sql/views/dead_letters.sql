-- Deliveries given up, with the event and the record of every attempt.
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
join wakelog.log l on l.position = d.position
join wakelog.events e on e.seq = l.seq
order by d.died_at, a.name, d.position;
