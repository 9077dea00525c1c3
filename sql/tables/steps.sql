-- Memoised pieces of handlers' work: what a step returned, once, whatever happens to the worker after.
create table wakelog.steps (
    agent_id integer not null,
    position bigint not null,
    name text not null,
    result jsonb not null,
    finished_at timestamptz not null default clock_timestamp(),
    constraint steps_once_per_delivery primary key (agent_id, position, name)
);
