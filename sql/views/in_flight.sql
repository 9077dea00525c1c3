-- Deliveries that are with a worker, stand in line, or wait: for their next try, or for the time before which
-- they are not to be delivered.
create or replace view wakelog.in_flight as
select a.name as agent,
       d.position,
       e.id as event_id,
       e.type,
       coalesce(e.correlation_id, e.id::text) as correlation_id,
       case when d.available_at = 'infinity' then 'in_line'
            when d.worker is null then 'waiting'
            when d.available_at <= wakelog.clock() then 'lease_over'
            else 'running' end as state,
       d.attempt,
       d.stalled,
       d.worker,
       w.name as worker_name,
       d.claimed_at,
       wakelog.clock() - d.claimed_at as since_claim,
       nullif(d.available_at, 'infinity') as available_at,
       d.failures -> -1 ->> 'error' as last_error
from wakelog.deliveries d
join wakelog.agents a on a.id = d.agent_id
join wakelog.log l on l.position = d.position
join wakelog.events e on e.seq = l.seq
left join wakelog.worker_sessions w on w.id = d.worker
order by a.name, d.position;
