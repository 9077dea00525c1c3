-- Seconds to wait after the n-th failure (n from 1), as an interval.
--
-- p_rule: {"kind": "fixed" | "exponential", "delay": seconds, "max": seconds, "jitter": 0 to 1}.
-- Exponential is delay * 2^(n-1), at most max. Jitter takes off a random part: with 0.5, the wait is
-- between half of it and all of it.
create or replace function wakelog.backoff(p_rule jsonb, p_failures integer) returns interval
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delay double precision := coalesce((p_rule ->> 'delay')::double precision, 1);
    v_max double precision := coalesce((p_rule ->> 'max')::double precision, 300);
    v_jitter double precision := coalesce((p_rule ->> 'jitter')::double precision, 0);
begin
    if v_delay < 0 or v_max < 0 or v_jitter not between 0 and 1
       or coalesce(p_rule ->> 'kind', '') not in ('fixed', 'exponential') then
        raise exception 'expected a backoff of kind fixed or exponential, delay and max of 0 seconds or more, jitter from 0 to 1; found %',
            p_rule using errcode = 'WL006';
    end if;
    if p_rule ->> 'kind' = 'exponential' then
        v_delay := least(v_delay * 2 ^ least(p_failures - 1, 60), v_max);
    end if;
    return make_interval(secs => v_delay * (1 - v_jitter * random()));
end
$$;
