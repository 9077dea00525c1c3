-- Events that an agent will not be given, since newer ones took their slots before they were handed out.
create table wakelog.dropped (
    agent_id integer not null
        constraint dropped_by_an_agent references wakelog.agents on delete cascade,
    seq bigint not null,
    constraint dropped_once primary key (agent_id, seq)
);
