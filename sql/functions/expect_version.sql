-- Check that a stream is at p_expected, hold it there until the transaction ends, and return p_expected.
create or replace function wakelog.expect_version(p_stream text, p_expected bigint) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_actual bigint;
begin
    if p_stream is null then
        raise exception 'an expected version (%) needs a stream', p_expected using errcode = 'WL006';
    end if;
    perform wakelog.lock_stream(p_stream);
    v_actual := wakelog.stream_version(p_stream);
    if v_actual <> p_expected then
        raise exception 'stream "%" is at version %, expected %', p_stream, v_actual, p_expected
            using errcode = 'WL001',
                  hint = 'Read the stream again, decide anew, and append with the version you saw.';
    end if;
    return p_expected;
end
$$;
