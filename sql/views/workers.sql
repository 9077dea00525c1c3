-- Who works, whether it lives, and how much it has in hand.
create or replace view wakelog.workers as
select w.id as worker,
       w.name,
       w.agents,
       wakelog.worker_alive(w) as alive,
       w.asleep,
       coalesce(d.in_flight, 0) as in_flight,
       w.started_at,
       w.seen_at,
       w.pid as backend_pid
from wakelog.worker_sessions w
left join (
    select worker, count(*) as in_flight from wakelog.deliveries where worker is not null group by worker
) d on d.worker = w.id
order by w.id;
