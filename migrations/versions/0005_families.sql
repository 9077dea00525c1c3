create table wakelog.families (
    family text not null
        constraint families_one_per_name primary key,
    types text[],
    must_match boolean not null default false
);
