-- From where on leases may have ended unnoticed: from where they were noticed last, and once a minute from the
-- beginning, for those of a claim that was committed later than its leases ran.
create or replace function wakelog.unswept(p_swept_at timestamptz, p_now timestamptz) returns timestamptz
language sql stable
return case
    when p_swept_at > p_now
         or pg_catalog.floor(extract(epoch from p_swept_at) / 60) < pg_catalog.floor(extract(epoch from p_now) / 60)
        then '-infinity'
    else p_swept_at
end;
