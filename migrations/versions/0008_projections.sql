create table wakelog.projections (
    id integer generated always as identity
        constraint projections_by_id primary key,
    name text not null
        constraint projections_one_per_name unique
        constraint projections_name_is_a_word check (name ~ '^[a-z_][a-z0-9_]*$' and octet_length(name) <= 40),
    schema text not null
        constraint projections_one_per_schema unique
        constraint projections_schema_is_a_word check (schema ~ '^[a-z_][a-z0-9_]*$' and octet_length(schema) <= 40),
    mode text not null
        constraint projections_in_a_known_mode check (mode in ('async', 'inline')),
    on_error text not null default 'stop'
        constraint projections_on_error_in_a_known_way check (on_error in ('stop', 'skip')),
    created_at timestamptz not null default clock_timestamp(),
    paused_at timestamptz
);
create table wakelog.projection_builds (
    id integer generated always as identity
        constraint projection_builds_by_id primary key,
    projection_id integer not null
        constraint projection_builds_of_a_projection references wakelog.projections on delete cascade,
    version integer not null
        constraint projection_builds_version_is_positive check (version > 0),
    state text not null
        constraint projection_builds_in_a_known_state check (state in ('building', 'serving', 'retired', 'aside')),
    attended boolean not null default false,
    schema text not null
        constraint projection_builds_one_per_schema unique,
    kind text not null
        constraint projection_builds_of_a_known_kind check (kind in ('sql', 'event', 'batch')),
    types text[] not null
        constraint projection_builds_want_some_type check (cardinality(types) > 0),
    -- Derived from types; null means all.
    type_regex text,
    partition_by text,
    -- The statements that make its tables, and those that fold wakelog.new_events into them.
    tables text[] not null,
    statements text[] not null,
    upto bigint,
    began_at timestamptz not null default clock_timestamp(),
    served_at timestamptz
);

create unique index projection_builds_one_serves on wakelog.projection_builds (projection_id) where state = 'serving';
create index projection_builds_by_projection on wakelog.projection_builds (projection_id);
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
create table wakelog.projection_types (
    build_id integer not null
        constraint projection_types_of_a_build references wakelog.projection_builds on delete cascade,
    type_id integer not null,
    constraint projection_types_once primary key (build_id, type_id)
);
create table wakelog.projection_skips (
    build_id integer not null
        constraint projection_skips_of_a_build references wakelog.projection_builds on delete cascade,
    seq bigint not null,
    error text not null,
    skipped_at timestamptz not null,
    constraint projection_skips_once primary key (build_id, seq)
);
