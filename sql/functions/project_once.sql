-- Fold one range of the log into a build whose fold is SQL, as the caller, in this transaction: at most p_window
-- positions, none above p_upto. p_to is how far it came; p_head, how far the log reaches.
create or replace function wakelog.project_once(
    p_build integer, p_part integer default 0, p_window bigint default null, p_upto bigint default null,
    out p_from bigint, out p_to bigint, out p_head bigint
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_begun record;
    v_statement text;
    v_statements text[];
begin
    select * into strict v_begun from wakelog.begin_projecting(p_build, p_part, p_window, p_upto);
    p_from := v_begun.p_from;
    p_to := v_begun.p_to;
    p_head := v_begun.p_head;
    if not v_begun.p_wanted then
        return;
    end if;
    select b.statements into strict v_statements from wakelog.projection_builds b where b.id = p_build;
    perform set_config('search_path', format('%I, public, wakelog, pg_temp', v_begun.p_schema), true);
    foreach v_statement in array v_statements loop
        execute v_statement;
    end loop;
    perform set_config('search_path', 'pg_catalog, pg_temp', true);
    perform wakelog.finish_projecting(p_build, p_part, p_from, p_to);
end
$$;
