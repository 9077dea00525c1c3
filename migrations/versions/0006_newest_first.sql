-- Cursors and the sequencer's row are read from their newest version on.
alter table wakelog.cursors
    drop constraint cursors_one_per_agent,
    add column moved bigint not null default 0,
    add column swept_at timestamptz not null default '-infinity',
    reset (fillfactor);

create index cursors_newest on wakelog.cursors (agent_id, moved);

alter table wakelog.sequencer
    drop constraint sequencer_is_one_row,
    add column run bigint not null default 0,
    set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create index sequencer_newest on wakelog.sequencer (run);

-- The last position of a type is the log's to say.
alter table wakelog.types alter column last_position set default 0;

-- What may be claimed is told from what is being worked on.
alter table wakelog.deliveries add column lost boolean not null default false;

drop index wakelog.deliveries_by_availability;

create index deliveries_due on wakelog.deliveries (agent_id, available_at) where worker is null or lost;

create index deliveries_held on wakelog.deliveries (agent_id, available_at) where worker is not null and not lost;
