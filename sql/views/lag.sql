-- How each agent stands. behind counts the events it wants and has not claimed (exact up to 10,000), those that
-- stand in line behind another of their key among them;
-- oldest_age is how long the oldest unfinished one has been in the log.
create or replace view wakelog.lag as
select a.name as agent,
       c.position as cursor,
       wakelog.behind(a, c.position, s.head) + coalesce(d.in_line, 0) as behind,
       wakelog.clock() - wakelog.oldest_waiting(a, c.position, s.head) as oldest_age,
       coalesce(d.in_flight, 0) as in_flight,
       coalesce(d.retrying, 0) as retrying,
       (select count(*) from wakelog.dead x where x.agent_id = a.id) as dead,
       coalesce(d.stalled, 0) as stalled,
       a.paused_at
from wakelog.agents a
join wakelog.cursors c on c.agent_id = a.id
cross join wakelog.sequencer s
left join (
    select agent_id,
           count(*) filter (where worker is not null) as in_flight,
           count(*) filter (where worker is null and available_at < 'infinity') as retrying,
           count(*) filter (where available_at = 'infinity') as in_line,
           sum(stalled) as stalled
    from wakelog.deliveries group by agent_id
) d on d.agent_id = a.id
order by a.name;
