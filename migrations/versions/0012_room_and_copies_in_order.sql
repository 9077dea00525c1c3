-- Rows of room are in an order, so that a transaction that takes many does not pass those that it has taken. Those that
-- there are stay without a number, which would be a table to write anew; they are taken first.
create sequence wakelog.room_ids;

alter table wakelog.room add column id bigint;

alter table wakelog.room alter column id set default nextval('wakelog.room_ids');

drop index wakelog.room_by_agent;

create index room_by_agent on wakelog.room (agent_id, owed, id nulls first);

-- The copy of an event's cause is looked up, among thousands that were copied with it.
drop index wakelog.copies_by_workflow;

create index copies_by_workflow on wakelog.copies (correlation_id, first_seq);
