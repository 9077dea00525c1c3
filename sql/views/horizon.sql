-- What may hold things up: how far the log reaches, who keeps the doors, who has the sequencer's lock (a run of the
-- sequencer for milliseconds; a transaction that registers an agent until its end, and no event gets its position
-- meanwhile), and the oldest open transactions.
-- An open transaction delays no one's events but its own; it does keep vacuum from cleaning up.
create or replace view wakelog.horizon as
select s.head,
       s.sequenced_at,
       (select l.pid from pg_catalog.pg_locks l
        where l.locktype = 'advisory' and l.granted
          and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
          and l.classid::integer = wakelog.lock_space('doorkeeper')) as doorkeeper_pid,
       q.pid as sequencer_pid,
       clock_timestamp() - q.xact_start as sequencer_age,
       t.pid as oldest_transaction_pid,
       clock_timestamp() - t.xact_start as oldest_transaction_age,
       t.state as oldest_transaction_state,
       t.application_name as oldest_transaction_application,
       (select max(clock_timestamp() - a.xact_start)
        from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
        where l.locktype = 'advisory' and l.mode = 'ShareLock' and l.granted
          and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
          and l.classid::integer = wakelog.lock_space('beacon')) as oldest_append_age
from wakelog.sequencer s
left join (
    select l.pid, a.xact_start
    from pg_catalog.pg_locks l left join pg_catalog.pg_stat_activity a on a.pid = l.pid
    where l.locktype = 'advisory' and l.granted
      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
      and l.classid::integer = wakelog.lock_space('sequencer')
) q on true
left join lateral (
    select a.* from pg_catalog.pg_stat_activity a
    where a.datname = current_database() and a.xact_start is not null and a.pid <> pg_backend_pid()
      and a.backend_type = 'client backend'
    order by a.xact_start limit 1
) t on true;
