-- Trigger: the log and its seals are append-only, whoever asks.
create or replace function wakelog.refuse_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '% of wakelog.% refused: the log is append-only', tg_op, tg_table_name
        using errcode = 'WL004', hint = 'Append an event that corrects the earlier one.';
end
$$;
