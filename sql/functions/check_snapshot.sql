-- Refuse to compare snapshots of different clusters, or one that runs backwards: that would lose events.
create or replace function wakelog.check_snapshot(p_last wakelog.sequencer, p_now pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_last.system_identifier <> (select c.system_identifier from pg_control_system() c) then
        raise exception 'the log was sequenced in another cluster (restored from a dump?)'
            using errcode = 'WL005', hint = 'Run: wakelog db rebase (a worker does so by itself).';
    end if;
    if pg_snapshot_xmax(p_now) < pg_snapshot_xmax(p_last.snapshot) then
        raise exception 'transaction ids run backwards: the log was sequenced up to %, now is %',
            pg_snapshot_xmax(p_last.snapshot), pg_snapshot_xmax(p_now)
            using errcode = 'WL005',
                  hint = 'If this server was reset or restored by hand, run: wakelog db rebase';
    end if;
end
$$;
