-- Cursors and the sequencer's row are read from their newest version on.
alter table wakelog.cursors
    drop constraint cursors_one_per_agent,
    add column moved bigint not null default 0,
    add column swept_at timestamptz not null default '-infinity',
    reset (fillfactor);

create index cursors_newest on wakelog.cursors (agent_id, moved);

alter table wakelog.sequencer
    drop column one,
    add column run bigint not null default 0,
    set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create index sequencer_newest on wakelog.sequencer (run);

-- The last position of a type is the log's to say.
alter table wakelog.types drop column last_position;

-- What may be claimed is told from what is being worked on.
alter table wakelog.deliveries add column lost boolean not null default false;

drop index wakelog.deliveries_by_availability;

create index deliveries_due on wakelog.deliveries (agent_id, available_at) where worker is null or lost;

create index deliveries_held on wakelog.deliveries (agent_id, available_at) where worker is not null and not lost;

drop function if exists wakelog.ready_agents(text[]);
drop function if exists wakelog.oldest_waiting(wakelog.agents, bigint, bigint);
drop function if exists wakelog.behind(wakelog.agents, bigint, bigint);
drop function if exists wakelog.has_fresh(wakelog.agents, bigint);
drop function if exists wakelog.moved_types(integer, bigint);
drop function if exists wakelog.claim_fresh(wakelog.agents, bigint, bigint, bigint, timestamptz, interval);
drop function if exists wakelog.claim_in_order(wakelog.agents, bigint, bigint, bigint, timestamptz, interval);
drop function if exists wakelog.claim_once(wakelog.agents, bigint, bigint, bigint, timestamptz, interval);
