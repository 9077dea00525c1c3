-- Whether the doorkeeper seals the log, and how often; one row.
create table wakelog.sealing (
    one boolean not null default true
        constraint sealing_is_one_row primary key
        constraint sealing_one_is_true check (one),
    enabled boolean not null default true,
    every interval not null default '10 seconds'
        constraint sealing_every_is_a_time check (every > '0')
);

insert into wakelog.sealing default values;
