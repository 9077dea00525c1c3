-- Types that begin with a word, or words, of which something was declared: which there are (null for any), and
-- whether some agent must want each event.
create table wakelog.families (
    family text not null
        constraint families_one_per_name primary key,
    types text[],
    must_match boolean not null default false,
    -- Of each type, the schema versions there are; null for any.
    versions jsonb
);
