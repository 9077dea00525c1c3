-- What older versions of the code read of a build that is folded in parts.
create or replace view wakelog.new_events_of_part as
select n.* from wakelog.new_events n;
