-- A claim takes the first of what is due, and looks only at lost work for what is to be given up.
drop index wakelog.deliveries_due;

create index deliveries_due on wakelog.deliveries (agent_id, available_at, position) where worker is null or lost;

create index deliveries_lost on wakelog.deliveries (agent_id, stalled, position) where lost;
