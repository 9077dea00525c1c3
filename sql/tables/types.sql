-- Every event type seen so far. Where in the log it is, wakelog.log says by its index on type and position.
create table wakelog.types (
    id integer generated always as identity
        constraint types_by_id primary key,
    type text not null
        constraint types_one_per_name unique,
    first_position bigint not null,
    -- No longer kept: for functions of the version before that are under way during an upgrade.
    last_position bigint not null default 0
) with (fillfactor = 50);
