-- Events that a build could not fold, and left out because it was told to.
create table wakelog.projection_skips (
    build_id integer not null
        constraint projection_skips_of_a_build references wakelog.projection_builds on delete cascade,
    seq bigint not null,
    error text not null,
    skipped_at timestamptz not null,
    constraint projection_skips_once primary key (build_id, seq)
);
