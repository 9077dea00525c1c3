-- The tables of a projection, once for each time they are made: in a schema of their own until they serve, and again
-- after another build has taken their place. schema is where they are at this moment.
-- attended: a command folds it; workers leave it alone. aside: not meant to serve. upto: it is folded no further.
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
