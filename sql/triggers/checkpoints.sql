-- Deferred to the commit. Made anew each time: constraint triggers cannot be replaced.
drop trigger if exists checkpoints_unfinished on wakelog.checkpoints;
create constraint trigger checkpoints_unfinished after update on wakelog.checkpoints
deferrable initially deferred
for each row when (new.busy)
execute function wakelog.refuse_unfinished();
