create table wakelog.forks (
    correlation_id text not null
        constraint forks_one_per_workflow primary key,
    parent text not null,
    position bigint not null,
    reached bigint not null,
    as_of timestamptz not null,
    changes jsonb not null default '{}',
    agents text[],
    forked_at timestamptz not null default clock_timestamp(),
    forked_by text not null default session_user
);

create index forks_by_parent on wakelog.forks (parent);

create table wakelog.copies (
    seq bigint not null
        constraint copies_one_per_event primary key,
    correlation_id text not null,
    original_seq bigint not null,
    first_seq bigint not null,
    agents text[]
);

create index copies_by_workflow on wakelog.copies (correlation_id);

create index copies_confined on wakelog.copies (seq) where agents is not null;

create table wakelog.rehearsals (
    fork text not null
        constraint rehearsals_are_never_committed references wakelog.forks deferrable initially deferred
);
