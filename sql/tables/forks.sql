-- Workflows that began anew from a point in another one's past. Never changed.
create table wakelog.forks (
    correlation_id text not null
        constraint forks_one_per_workflow primary key,
    parent text not null,
    -- The parent's events below this position are the past of both.
    position bigint not null,
    -- The moment of the fork, as a position and as a time: what the parent's agents finished later, they have not
    -- finished here. The event at the point, and those committed with it, had been reached.
    reached bigint not null,
    as_of timestamptz not null,
    -- What was said otherwise in the payload of the event at the point, by path.
    changes jsonb not null default '{}',
    -- To whom the events that are delivered anew were confined; null for everybody who wants them.
    agents text[],
    forked_at timestamptz not null default clock_timestamp(),
    forked_by text not null default session_user
);

create index forks_by_parent on wakelog.forks (parent);
