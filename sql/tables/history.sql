-- Finished deliveries, in a partition per day (UTC), so that old history goes by dropping tables.
-- Rows of a day that has no partition yet are kept in the default one until it is made.
create table wakelog.history (
    agent_id integer not null,
    position bigint not null,
    attempts integer not null,
    stalled integer not null,
    worker bigint,
    started_at timestamptz not null,
    finished_at timestamptz not null,
    outcome text not null,
    failures jsonb
) partition by range (finished_at);

create index history_by_position on wakelog.history (position);

create table wakelog.history_default partition of wakelog.history default;
