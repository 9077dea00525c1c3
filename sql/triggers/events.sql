-- What happens at an insert into wakelog.events, in the inserting transaction. The row triggers cost
-- their condition only, unless it holds.
create or replace trigger events_own_transaction before insert on wakelog.events
for each row when (new.xid <> pg_current_xact_id())
execute function wakelog.own_transaction();

create or replace trigger events_next_version before insert on wakelog.events
for each row when (new.version is null and new.stream is not null)
execute function wakelog.next_version();

create or replace trigger events_refuse_reserved_key before insert on wakelog.events
for each row when (starts_with(new.idempotency_key, 'wakelog:'))
execute function wakelog.refuse_reserved_key();

-- As cheap as it can be asked whether there is a declared family or a bounded agent at all.
create or replace trigger events_guard after insert on wakelog.events
for each row when (pg_sequence_last_value('wakelog.guarded') is not null)
execute function wakelog.guard_insert();

-- The beacon (wakelog.lock_space) is tried here, in the condition, so that the function is called only when somebody
-- sleeps: called for every insert, it took 10 % of the throughput.
create or replace trigger events_wake after insert on wakelog.events
for each statement when (not pg_try_advisory_xact_lock_shared(2002873189, 0))
execute function wakelog.wake();

create or replace trigger events_refuse_change before update or delete on wakelog.events
for each row execute function wakelog.refuse_change();

create or replace trigger events_refuse_truncate before truncate on wakelog.events
for each statement execute function wakelog.refuse_change();
