-- The tables and sequences this transaction has written to, or may have: those it holds locked for it. Soundly so,
-- for a lock that writing needs is kept to the end of the transaction. Not those of the system and temporary ones.
create or replace function wakelog.written_tables() returns setof oid
language sql stable
begin atomic
    select distinct c.oid
    from pg_locks l
    join pg_class c on c.oid = l.relation
    join pg_namespace n on n.oid = c.relnamespace
    where l.pid = pg_backend_pid() and l.locktype = 'relation'
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.mode not in ('AccessShareLock', 'RowShareLock')
      and c.relkind in ('r', 'p', 'S', 'm', 'f')
      and n.nspname !~ '^pg_';
end;
