-- One more failed attempt in a delivery's record: the last 20, each error cut to 2,000 and each traceback
-- to 8,000 characters.
create or replace function wakelog.add_failure(
    p_failures jsonb, p_attempt integer, p_worker bigint, p_started_at timestamptz, p_failed_at timestamptz,
    p_reason text, p_error text, p_detail text
) returns jsonb
language sql immutable
begin atomic
    select jsonb_path_query_array(
        coalesce(p_failures, '[]') || jsonb_strip_nulls(jsonb_build_object(
            'attempt', p_attempt, 'worker', p_worker, 'started_at', p_started_at,
            'failed_at', p_failed_at, 'reason', p_reason, 'error', left(p_error, 2000),
            'detail', right(p_detail, 8000))),
        'strict $[$from to last]',
        jsonb_build_object('from', greatest(jsonb_array_length(coalesce(p_failures, '[]')) - 19, 0)));
end;
