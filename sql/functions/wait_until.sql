-- Wait until readers of a projection see everything up to p_position, or, where that is null, everything that was
-- committed when this was called; return how far it is then. WL015 where that takes longer than p_timeout, or the
-- projection has stopped. Each look is a new statement, so not in a transaction of a higher isolation level.
create or replace function wakelog.wait_until(
    p_projection text, p_position bigint default null, p_timeout interval default '10 seconds'
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id integer := wakelog.projection_id(p_projection);
    v_deadline timestamptz := clock_timestamp() + p_timeout;
    v_seqs bigint[] := '{}'::bigint[];
    v_target bigint := p_position;
    v_pause double precision := 0.002::double precision;
    v_now record;
    v_reached bigint;
begin
    if v_target is null then
        v_seqs := array(select wakelog.without_position(null));
        v_target := wakelog.head();
    end if;
    loop
        if v_seqs <> '{}' and (select count(*) from wakelog.log l where l.seq = any (v_seqs)) = cardinality(v_seqs) then
            v_target := greatest(v_target, (select max(l.position) from wakelog.log l where l.seq = any (v_seqs)));
            v_seqs := '{}';
        end if;
        select p.mode, p.paused_at, c.position, c.error, wakelog.head() as head into v_now
        from wakelog.projections p
        left join wakelog.projection_builds b on b.projection_id = p.id and b.state = 'serving'
        left join wakelog.checkpoints c on c.build_id = b.id and c.part = 0
        where p.id = v_id;
        if v_now.error is null and v_now.position is not null
           and (v_now.mode = 'inline' or (v_seqs = '{}' and v_now.position >= v_target)) then
            v_reached := case v_now.mode when 'inline' then v_now.head else v_now.position end;
            exit;
        end if;
        if v_now.error is not null then
            raise exception 'projection "%" has stopped at position %, before %: %', p_projection, v_now.position,
                v_target, v_now.error
                using errcode = 'WL015', hint = format('See: wakelog projection show %s', p_projection);
        end if;
        if clock_timestamp() > v_deadline or current_setting('transaction_isolation') <> 'read committed' then
            raise exception 'expected projection "%" at position % within %, found it at %', p_projection, v_target,
                p_timeout, coalesce(v_now.position::text, 'its first making')
                using errcode = 'WL015', hint = case
                    when v_now.paused_at is not null
                    then format('It is paused; let it go on: wakelog projection resume %s', p_projection)
                    else format('Does a worker run it? See: wakelog projection show %s', p_projection) end;
        end if;
        perform pg_sleep(v_pause);
        v_pause := least(v_pause * 1.5, 0.05);
    end loop;
    return v_reached;
end
$$;
