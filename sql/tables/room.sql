-- For agents that have a capacity: a row for each event more that it may have. An event takes one, by deleting it with
-- SKIP LOCKED in the transaction that appends it, so producers never wait for each other, and a rollback brings it
-- back. It is given back as a new row: whoever finishes work waits for no producer either. Rows that were updated
-- instead would be locked by producers that lost a race for them, for as long as their transactions last.
-- owed: the capacity was made smaller; the next that would be given back is kept.
-- id: the order in which rows are taken; older databases have some without.
create sequence wakelog.room_ids;

create table wakelog.room (
    agent_id integer not null
        constraint room_of_an_agent references wakelog.agents on delete cascade,
    owed boolean not null default false,
    id bigint default nextval('wakelog.room_ids')
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create index room_by_agent on wakelog.room (agent_id, owed, id nulls first);
