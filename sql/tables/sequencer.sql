-- The sequencer's memory, one row: how far the log reaches, and the snapshot up to which every
-- committed event has its position. The system identifier tells a restored copy from the cluster
-- whose transaction ids the snapshot speaks of.
create table wakelog.sequencer (
    one boolean not null default true
        constraint sequencer_is_one_row primary key
        constraint sequencer_one_is_true check (one),
    head bigint not null default 0,
    snapshot pg_snapshot not null default '1:1:',
    system_identifier bigint not null,
    -- Events up to this seq were placed by a rebase: their xids are another cluster's.
    rebased_seq bigint not null default 0,
    sequenced_at timestamptz not null default '-infinity'
);

insert into wakelog.sequencer (system_identifier)
select system_identifier from pg_catalog.pg_control_system();
