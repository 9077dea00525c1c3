-- Deliveries given up: every attempt failed, the handler said not to try again, workers kept dying
-- over it, it had become too old, or newer ones took its place. They wait here for a person
-- (wakelog dead list | retry | discard).
create table wakelog.dead (
    agent_id integer not null,
    position bigint not null,
    attempts integer not null,
    stalled integer not null,
    reason text not null
        constraint dead_for_a_known_reason
        check (reason in ('max_attempts', 'do_not_retry', 'stalled', 'expired', 'overflow')),
    error text,
    failures jsonb,
    first_claimed_at timestamptz not null,
    died_at timestamptz not null,
    constraint dead_one_per_agent_and_event primary key (agent_id, position)
);
