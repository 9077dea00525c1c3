-- Events visible in p_now and not in p_last: two range scans of the index on xid, whatever else is open.
-- Those up to p_rebased had their places, by a rebase, in spite of what their xids say.
-- "is true" keeps that condition off the primary key. The array makes the second one a lookup per transaction;
-- a join would scan the whole index.
create or replace function wakelog.unsequenced(p_last pg_snapshot, p_now pg_snapshot, p_rebased bigint)
returns table (seq bigint, type text)
language sql stable
begin atomic
    select e.seq, e.type from wakelog.events e
    where e.xid >= pg_snapshot_xmax(p_last) and e.xid < pg_snapshot_xmax(p_now)
      and pg_visible_in_snapshot(e.xid, p_now)
      and (e.seq > p_rebased) is true
    union all
    select e.seq, e.type from wakelog.events e
    where e.xid = any (array(
        select x.id from pg_snapshot_xip(p_last) as x (id) where pg_visible_in_snapshot(x.id, p_now)))
      and (e.seq > p_rebased) is true;
end;
