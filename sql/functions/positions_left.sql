-- What is left of some positions, in their order, without those that are gone.
create or replace function wakelog.positions_left(p_positions bigint[], p_gone bigint[]) returns bigint[]
language sql immutable
begin atomic
    select array(
        select p.position from unnest(p_positions) with ordinality as p (position, ordinal)
        where p.position <> all (coalesce(p_gone, '{}')) order by p.ordinal);
end;
