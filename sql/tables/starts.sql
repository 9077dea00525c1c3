-- When work was handed out for agents that have a rate, for as long as their window looks back.
create table wakelog.starts (
    agent_id integer not null
        constraint starts_of_an_agent references wakelog.agents on delete cascade,
    started_at timestamptz not null
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);

create index starts_by_time on wakelog.starts (agent_id, started_at);
