-- Types of which events are in the log and that no agent wants. The events of a type that an agent wants may still all
-- be turned down by its other filters. What agents tell of themselves need not be wanted.
create or replace view wakelog.unmatched as
select t.type, t.first_position, last.position as last_position,
       (select count(*) from (
            select from wakelog.log l where l.type_id = t.id limit 10000) counted) as events
from wakelog.types t
cross join lateral (
    select l.position from wakelog.log l where l.type_id = t.id order by l.type_id desc, l.position desc limit 1) last
where not exists (select from wakelog.agent_types w where w.type_id = t.id)
  and not exists (select from wakelog.agents a where a.type_regex is null
                  and t.type not in (a.name || '.completed', a.name || '.failed'))
  and not exists (select from wakelog.agents a where t.type in (a.name || '.completed', a.name || '.failed'))
order by t.type;
