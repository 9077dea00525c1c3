-- The order of the log. Positions are handed out after commit, gapless, and never change.
-- sequenced_at never decreases with position, so a moment has a position (wakelog.position_at).
create table wakelog.log (
    position bigint not null
        constraint log_by_position primary key,
    seq bigint not null
        constraint log_one_position_per_event unique,
    type_id integer not null,
    sequenced_at timestamptz not null
);

create index log_by_type on wakelog.log (type_id, position);
