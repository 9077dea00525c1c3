-- Every build of every projection: how far it is, whether it moves, and where it stopped. An inline one that serves is
-- as far as the log, and beyond.
create or replace view wakelog.projection_status as
select p.name as projection,
       b.version,
       b.state,
       p.mode,
       b.kind,
       b.schema,
       b.id as build,
       c.position,
       s.head,
       case when b.state = 'retired' then 0 else greatest(coalesce(b.upto, s.head) - c.position, 0) end as behind,
       c.moved_at,
       r.pid as runner_pid,
       p.paused_at,
       l.position as failed_position,
       e.type as failed_type,
       e.id as failed_event,
       c.error,
       c.failed_at,
       (select count(*) from wakelog.projection_skips k where k.build_id = b.id) as skipped,
       b.attended,
       c.parts,
       b.upto,
       b.began_at,
       b.served_at
from wakelog.projections p
join wakelog.projection_builds b on b.projection_id = p.id
cross join wakelog.sequencer s
cross join lateral (
    select case when p.mode = 'inline' and b.state = 'serving' and bool_and(c.error is null) then s.head
                else min(c.position) end as position,
           max(c.moved_at) as moved_at, count(*) as parts,
           min(c.failed_seq) as failed_seq, min(c.error) as error, min(c.failed_at) as failed_at
    from wakelog.checkpoints c where c.build_id = b.id
) c
left join wakelog.log l on l.seq = c.failed_seq
left join wakelog.events e on e.seq = c.failed_seq
left join lateral (
    select k.pid from pg_catalog.pg_locks k
    where k.locktype = 'advisory' and k.granted
      and k.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
      and k.classid::integer = wakelog.lock_space('projection') and k.objid::bigint = b.id
    limit 1
) r on true
order by p.name, b.id;
