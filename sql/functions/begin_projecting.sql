-- Begin to fold the next events into a build, or into one part of it: at most p_window positions, none above p_upto.
-- The transaction holds the checkpoint from here to its end, reads wakelog.new_events, writes tables of p_schema and
-- no other, and ends with wakelog.finish_projecting(p_build, p_part, p_from, p_to); without that it cannot commit.
--
-- p_wanted false: there is nothing to fold, and nothing to finish. Where the log went on with events that are not
-- wanted, the checkpoint has gone with it.
create or replace function wakelog.begin_projecting(
    p_build integer, p_part integer default 0, p_window bigint default null, p_upto bigint default null,
    out p_from bigint, out p_to bigint, out p_head bigint, out p_schema text, out p_wanted boolean,
    out p_parts integer
)
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_point wakelog.checkpoints;
    v_build wakelog.projection_builds;
    v_projection wakelog.projections;
    v_types_seen integer;
    v_first_seq bigint;
    v_last_seq bigint;
begin
    select c.* into v_point from wakelog.checkpoints c
    where c.build_id = p_build and c.part = p_part for update;
    if not found then
        raise exception 'there is no build % with a part % of any projection', p_build, p_part
            using errcode = 'WL014', hint = 'It was dropped, or finished by another; see: wakelog projection list';
    end if;
    select b.* into strict v_build from wakelog.projection_builds b where b.id = p_build;
    select p.* into strict v_projection from wakelog.projections p where p.id = v_build.projection_id;
    -- The head is read first: what is asked afterwards may see more of the log, never less.
    p_head := wakelog.head();
    p_from := v_point.position;
    p_to := least(p_head, p_upto, v_build.upto);
    p_schema := v_build.schema;
    p_wanted := false;
    p_parts := v_point.parts;
    if p_to <= p_from or v_point.error is not null or v_build.state = 'retired'
       or (v_projection.paused_at is not null and not v_build.attended) then
        p_to := p_from;
        return;
    end if;

    if v_build.type_regex is not null then
        select max(t.id) into v_types_seen from wakelog.types t;
        if v_types_seen > v_point.types_seen then
            insert into wakelog.projection_types (build_id, type_id)
            select p_build, t.id from wakelog.types t
            where t.id > v_point.types_seen and t.id <= v_types_seen and '.' || t.type ~ v_build.type_regex
            on conflict do nothing;
        end if;
        if not exists (
            select from wakelog.projection_types w
            cross join lateral (
                select from wakelog.log l
                where (l.type_id, l.position) > (w.type_id, p_from) and (l.type_id, l.position) <= (w.type_id, p_head)
                order by l.type_id, l.position limit 1) moved
            where w.build_id = p_build
        ) then
            perform set_config('synchronous_commit', 'off', true);
            update wakelog.checkpoints c
            set position = p_to, moved_at = wakelog.clock(), types_seen = v_types_seen
            where c.build_id = p_build and c.part = p_part;
            return;
        end if;
    end if;

    p_to := least(p_to, p_from + p_window);
    -- The events of a range lie close together, and are read from end to end where most are wanted. The planner would
    -- otherwise rather read the whole table than look each of them up. "offset 0" keeps it from looking for the least
    -- and the greatest in the order of seq, through all of the log that is not in the range.
    select min(r.seq), max(r.seq) into v_first_seq, v_last_seq
    from (select l.seq from wakelog.log l where l.position > p_from and l.position <= p_to offset 0) r;
    p_wanted := true;
    update wakelog.checkpoints c set busy = true, types_seen = coalesce(v_types_seen, c.types_seen)
    where c.build_id = p_build and c.part = p_part;
    -- Rows and checkpoint are lost together in a crash, and folded again: nobody need wait for the disk.
    perform set_config('synchronous_commit', 'off', true),
            set_config('jit', 'off', true),
            set_config('max_parallel_workers_per_gather', '0', true),
            set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')) / 1024, 32768) || 'kB', true),
            set_config('wakelog.build', p_build::text, true),
            set_config('wakelog.after', p_from::text, true),
            set_config('wakelog.upto', p_to::text, true),
            set_config('wakelog.first_seq', v_first_seq::text, true),
            set_config('wakelog.last_seq', v_last_seq::text, true),
            set_config('wakelog.every_type', case when v_build.type_regex is null then 'on' else 'off' end, true),
            set_config('wakelog.part', v_point.part::text, true),
            set_config('wakelog.parts', v_point.parts::text, true),
            set_config('wakelog.partition_by', coalesce(v_build.partition_by, ''), true),
            set_config('wakelog.written', array(select wakelog.written_tables())::text, true);
end
$$;
