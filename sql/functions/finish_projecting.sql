-- Say that everything above p_from up to p_to is in the tables of a build: the checkpoint moves in this transaction,
-- or WL013. It must be the one that began; and it may have written to the tables of that build alone: WL006.
create or replace function wakelog.finish_projecting(p_build integer, p_part integer, p_from bigint, p_to bigint)
returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_schema text;
    v_strange text;
begin
    select b.schema into v_schema from wakelog.projection_builds b where b.id = p_build;
    select string_agg(format('%I.%I', n.nspname, c.relname), ', ' order by n.nspname, c.relname) into v_strange
    from wakelog.written_tables() w (oid)
    join pg_class c on c.oid = w.oid
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname <> v_schema
      and w.oid <> all (coalesce(nullif(current_setting('wakelog.written', true), ''), '{}')::oid[]);
    if v_strange is not null then
        raise exception 'a projection writes to tables of its own, named without a schema; found writes to %', v_strange
            using errcode = 'WL006', hint = 'Effects on anything else are an agent''s work.';
    end if;
    update wakelog.checkpoints c set position = p_to, busy = false, moved_at = wakelog.clock()
    where c.build_id = p_build and c.part = p_part and c.position = p_from and c.busy;
    if not found then
        raise exception 'build % is no longer at position %, or this transaction did not begin to fold it',
            p_build, p_from
            using errcode = 'WL013', hint = 'Another runner was here, or the function ended its transaction.';
    end if;
end
$$;
