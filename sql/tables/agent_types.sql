-- Which types an agent's patterns come to, resolved when a type first appears or the agent changes.
-- Agents that want every type have no rows here.
create table wakelog.agent_types (
    agent_id integer not null
        constraint agent_types_of_an_agent references wakelog.agents on delete cascade,
    type_id integer not null,
    constraint agent_types_once primary key (agent_id, type_id)
);
