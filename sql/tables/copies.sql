-- Events of forks that stand for events of the parent, so that agents are given them anew. Never changed.
create table wakelog.copies (
    seq bigint not null
        constraint copies_one_per_event primary key,
    correlation_id text not null,
    original_seq bigint not null,
    -- The original of the original, and so on: the one that is no copy.
    first_seq bigint not null,
    -- To whom it is given, whoever else would want it; null for everybody.
    agents text[]
);

create index copies_by_workflow on wakelog.copies (correlation_id, first_seq);

-- Whether there are any, and which: asked at each claim.
create index copies_confined on wakelog.copies (seq) where agents is not null;
