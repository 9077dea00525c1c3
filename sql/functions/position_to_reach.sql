-- How far a build must be folded to take the place of what serves: as far as that, or, for an inline projection, to the
-- end of the log. So one that is slower than the log grows takes over all the same. Null where nothing serves yet.
create or replace function wakelog.position_to_reach(p_build integer) returns bigint
language sql stable
security definer
begin atomic
    select case p.mode
        when 'inline' then (select s.head from wakelog.sequencer s)
        else (select min(c.position) from wakelog.projection_builds o join wakelog.checkpoints c on c.build_id = o.id
              where o.projection_id = p.id and o.state = 'serving') end
    from wakelog.projection_builds b join wakelog.projections p on p.id = b.projection_id
    where b.id = p_build;
end;
