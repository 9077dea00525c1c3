-- Whom events say something personal about, each with the id of the key that encrypts it. A row stays when its key is
-- gone, so that a forgotten subject stays forgotten. Name subjects by an id that says nothing of them.
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
