-- Which types a build's patterns come to, as far as it has seen them. Builds that want every type have no rows here.
create table wakelog.projection_types (
    build_id integer not null
        constraint projection_types_of_a_build references wakelog.projection_builds on delete cascade,
    type_id integer not null,
    constraint projection_types_once primary key (build_id, type_id)
);
