alter table wakelog.agents
    add column capacity integer
        constraint agents_capacity_is_positive check (capacity > 0),
    add column overflow text not null default 'refuse'
        constraint agents_overflow_in_a_known_way check (overflow in ('refuse', 'drop_oldest'));

alter table wakelog.dead drop constraint dead_for_a_known_reason;
alter table wakelog.dead add constraint dead_for_a_known_reason
    check (reason in ('max_attempts', 'do_not_retry', 'stalled', 'expired', 'overflow'));

create table wakelog.slots (
    agent_id integer not null
        constraint slots_of_an_agent references wakelog.agents on delete cascade,
    seq bigint not null,
    constraint slots_one_per_event primary key (agent_id, seq)
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

-- Whether there was ever a bounded agent or a declared family: asked at each insert, of a sequence because nothing
-- is cheaper.
create sequence wakelog.guarded as integer;

create table wakelog.room (
    agent_id integer not null
        constraint room_of_an_agent references wakelog.agents on delete cascade,
    owed boolean not null default false
) with (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

create index room_by_agent on wakelog.room (agent_id, owed);

create table wakelog.dropped (
    agent_id integer not null
        constraint dropped_by_an_agent references wakelog.agents on delete cascade,
    seq bigint not null,
    constraint dropped_once primary key (agent_id, seq)
);
