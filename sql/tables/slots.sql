-- For agents with a capacity: as many rows as the agent may have unfinished events. An event takes a free one in the
-- transaction that appends it, with SKIP LOCKED, so producers never wait for each other; it is free again when the
-- event is finished. seq is the event that holds it.
create table wakelog.slots (
    agent_id integer not null
        constraint slots_of_an_agent references wakelog.agents on delete cascade,
    slot integer not null,
    seq bigint,
    constraint slots_one_per_number primary key (agent_id, slot)
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create index slots_free on wakelog.slots (agent_id) where seq is null;

create unique index slots_one_per_event on wakelog.slots (agent_id, seq) where seq is not null;

-- Whether any agent was ever bounded: asked at each insert, of a sequence because nothing is cheaper.
create sequence wakelog.bounded as integer;
