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
