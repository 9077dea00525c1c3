-- As sql/roles/roles.sql makes it in a new database.
do $$
begin
    if not exists (select from pg_catalog.pg_roles where rolname = 'wakelog_keys') then
        create role wakelog_keys nologin;
    end if;
exception
    when duplicate_object or unique_violation then null;
    when insufficient_privilege then
        raise warning 'role wakelog_keys was not created: % may not create roles', current_user;
end
$$;

create table wakelog.seals (
    number bigint not null
        constraint seals_by_number primary key
        constraint seals_number_is_positive check (number > 0),
    from_position bigint not null,
    to_position bigint not null
        constraint seals_one_per_end unique,
    count integer not null,
    root bytea not null,
    previous bytea not null,
    sealed_at timestamptz not null,
    hash bytea not null,
    leaves bytea not null,
    constraint seals_count_their_positions check (count > 0 and count = to_position - from_position + 1),
    constraint seals_have_hashes_of_32_bytes check (
        length(root) = 32 and length(previous) = 32 and length(hash) = 32 and length(leaves) = 32 * count)
);

alter table wakelog.seals alter column leaves set storage external;

create table wakelog.sealing (
    one boolean not null default true
        constraint sealing_is_one_row primary key
        constraint sealing_one_is_true check (one),
    enabled boolean not null default true,
    every interval not null default '10 seconds'
        constraint sealing_every_is_a_time check (every > '0')
);

insert into wakelog.sealing default values;

create table wakelog.subjects (
    subject text not null
        constraint subjects_by_name primary key
        constraint subjects_have_a_name check (subject <> ''),
    id bigint generated always as identity
        constraint subjects_one_per_id unique,
    created_at timestamptz not null default clock_timestamp(),
    forgotten_at timestamptz,
    forgotten_by text
);

create table wakelog.subject_keys (
    subject_id bigint not null
        constraint subject_keys_one_per_subject primary key
        constraint subject_keys_of_a_subject references wakelog.subjects (id),
    key bytea not null
        constraint subject_keys_of_256_bits check (length(key) = 32)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 0);

alter table wakelog.subject_keys alter column key set statistics 0;
alter table wakelog.subject_keys alter column key set storage plain;
