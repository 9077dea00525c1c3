-- Keeps a transaction from being committed: it refers to a fork that is not there, which is found out at the commit,
-- whoever tries it and however. So it is always empty. See wakelog.begin_rehearsal.
create table wakelog.rehearsals (
    fork text not null
        constraint rehearsals_are_never_committed references wakelog.forks deferrable initially deferred
);
