-- How full the agents are that have a capacity.
create or replace view wakelog.capacity as
select a.name as agent,
       a.capacity,
       count(s.seq) as taken,
       a.capacity - count(s.seq) as free,
       a.overflow
from wakelog.agents a
left join wakelog.slots s on s.agent_id = a.id
where a.capacity is not null
group by a.id
order by a.name;
