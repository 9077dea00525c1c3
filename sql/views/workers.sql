-- Who works, whether it lives, and how much it has in hand.
create or replace view wakelog.workers as
select w.id as worker,
       w.name,
       w.agents,
       wakelog.worker_alive(w) as alive,
       w.asleep,
       (select count(*) from wakelog.deliveries d where d.worker = w.id) as in_flight,
       w.started_at,
       w.seen_at,
       w.pid as backend_pid
from wakelog.worker_sessions w
order by w.id;
