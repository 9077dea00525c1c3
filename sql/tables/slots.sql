-- The unfinished events of agents that have a capacity. Each took a row of wakelog.room, and gives one back when it
-- is finished.
create table wakelog.slots (
    agent_id integer not null
        constraint slots_of_an_agent references wakelog.agents on delete cascade,
    seq bigint not null,
    constraint slots_one_per_event primary key (agent_id, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Whether there was ever a bounded agent or a declared family: asked at each insert, of a sequence because nothing
-- is cheaper.
create sequence wakelog.guarded as integer;
