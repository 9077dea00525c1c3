-- The sequencer's memory, one row: how far the log reaches, and the snapshot up to which every
-- committed event has its position. The system identifier tells a restored copy from the cluster
-- whose transaction ids the snapshot speaks of.
--
-- Like a cursor it is read from its newest version on, by the number of the run that wrote it, and has no unique
-- constraint (wakelog.head).
create table wakelog.sequencer (
    one boolean not null default true
        constraint sequencer_one_is_true check (one),
    head bigint not null default 0,
    snapshot pg_snapshot not null default '1:1:',
    system_identifier bigint not null,
    -- Events up to this seq were placed by a rebase: their xids are another cluster's.
    rebased_seq bigint not null default 0,
    sequenced_at timestamptz not null default '-infinity',
    run bigint not null default 0
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create index sequencer_newest on wakelog.sequencer (run);

insert into wakelog.sequencer (system_identifier)
select system_identifier from pg_catalog.pg_control_system();
