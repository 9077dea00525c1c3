-- Who works. A worker that holds a session advisory lock for its life (locked) is known to be dead the
-- moment its connection goes; others, as a shell script, only by their leases.
-- room is how many more deliveries it could take while asleep, waiting to be rung.
create sequence wakelog.worker_ids as integer;

create table wakelog.worker_sessions (
    id bigint not null default nextval('wakelog.worker_ids')
        constraint worker_sessions_by_id primary key,
    name text not null,
    agents text[] not null,
    locked boolean not null,
    pid integer,
    asleep boolean not null default false,
    room integer not null default 0,
    started_at timestamptz not null default clock_timestamp(),
    seen_at timestamptz not null default clock_timestamp()
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
