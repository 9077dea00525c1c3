-- Which workflow was forked from which, both ways: of a fork its parent, and of a parent its forks.
-- select * from wakelog.lineage where correlation_id = '...'
create or replace view wakelog.lineage as
select f.correlation_id, 'forked from' as relation, f.parent as other, f.position, f.as_of, f.changes, f.agents,
       f.forked_at, f.forked_by
from wakelog.forks f
union all
select f.parent, 'forked as', f.correlation_id, f.position, f.as_of, f.changes, f.agents, f.forked_at, f.forked_by
from wakelog.forks f;
