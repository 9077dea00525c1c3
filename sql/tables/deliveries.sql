-- The working set: one row for each event that is with a worker or waits for another try. Rows appear at
-- claim time and go when the work is done, so a backlog of any size costs nothing here.
--
-- worker is null while a delivery waits. available_at says when it may next be claimed: the end of the
-- lease while a worker has it, the time of the next try while it waits.
-- (worker, attempt) fences: whoever does not hold both can change nothing.
-- key is what an ordered agent's work is ordered by: of the rows of one key, only the first may be with a
-- worker or wait for a time; the others stand in line behind it, available at infinity.
-- attempt counts claims that were not given back; stalled, those that ended with no word from the worker.
create table wakelog.deliveries (
    agent_id integer not null,
    position bigint not null,
    worker bigint,
    attempt integer not null,
    stalled integer not null default 0,
    available_at timestamptz not null,
    claimed_at timestamptz not null,
    first_claimed_at timestamptz not null,
    failures jsonb,
    key text,
    constraint deliveries_one_per_agent_and_event primary key (agent_id, position),
    -- Whether its worker died or let its lease run out. Last, as databases made before it have it.
    lost boolean not null default false
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000
);

-- What may be claimed again, or will be. Apart from what is being worked on, so that a claim does not walk past the
-- leases of finished work, which stay in the index while an old snapshot is open; and in the order in which it is claimed,
-- so that a claim takes the first of a hundred thousand that are due at one moment.
create index deliveries_due on wakelog.deliveries (agent_id, available_at, position) where worker is null or lost;

create index deliveries_held on wakelog.deliveries (agent_id, available_at) where worker is not null and not lost;

-- What is given up where workers have died over it too often.
create index deliveries_lost on wakelog.deliveries (agent_id, stalled, position) where lost;

-- When the next postponed delivery is due.
create index deliveries_waiting on wakelog.deliveries (available_at)
where worker is null and available_at < 'infinity';

-- The line of each key.
create index deliveries_in_line on wakelog.deliveries (agent_id, key, position) where key is not null;
