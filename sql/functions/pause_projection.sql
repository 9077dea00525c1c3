-- Fold nothing more into a projection's builds, but those that a command folds, until it is resumed.
create or replace function wakelog.pause_projection(p_name text) returns void
language sql volatile
security definer
begin atomic
    update wakelog.projections p set paused_at = coalesce(p.paused_at, wakelog.clock())
    where p.id = wakelog.projection_id(p_name);
end;
