-- Every event type seen so far, with the last position of each: a claim can tell, without reading the
-- log, that nothing for its agent has happened since.
create table wakelog.types (
    id integer generated always as identity
        constraint types_by_id primary key,
    type text not null
        constraint types_one_per_name unique,
    first_position bigint not null,
    last_position bigint not null
) with (fillfactor = 50);
