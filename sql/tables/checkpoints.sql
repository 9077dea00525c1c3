-- How far each build is folded: everything it wants at or below position is in its tables. Moved in the transaction
-- that changes those tables, under the lock of this row. A build that is made by several processes has a row for each
-- part of its events.
-- busy: a transaction has begun to fold, and may not be committed before it says how far it came.
-- The event over which it stopped is failed_seq, until somebody resumes it.
create table wakelog.checkpoints (
    build_id integer not null
        constraint checkpoints_of_a_build references wakelog.projection_builds on delete cascade,
    part integer not null default 0,
    parts integer not null default 1,
    position bigint not null default 0
        constraint checkpoints_position_is_not_negative check (position >= 0),
    busy boolean not null default false,
    types_seen integer not null default 0,
    moved_at timestamptz,
    failed_seq bigint,
    error text,
    failed_at timestamptz,
    constraint checkpoints_one_per_part primary key (build_id, part),
    constraint checkpoints_part_is_one_of_them check (part >= 0 and part < parts)
) with (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);
