-- State that is derived from the log. What is built of one, in which version, is in wakelog.projection_builds.
-- schema is where readers find its tables, all of them and nothing else.
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
