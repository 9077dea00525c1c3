-- A payload with some values replaced: {"customer.name": "Grace", "items.0.price": 3}. WL006 where there is no such place;
-- a new name in an object that is there is one.
create or replace function wakelog.changed_payload(p_payload jsonb, p_changes jsonb) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_path text[];
    v_value jsonb;
    v_name text;
begin
    if jsonb_typeof(p_changes) <> 'object' then
        raise exception 'expected changes as an object of paths and values, found %', left(p_changes::text, 80)
            using errcode = 'WL006';
    end if;
    for v_name, v_value in select c.key, c.value from jsonb_each(p_changes) c loop
        v_path := string_to_array(v_name, '.');
        if jsonb_typeof(p_payload) not in ('object', 'array') or v_name = ''
           or jsonb_typeof(p_payload #> v_path[:cardinality(v_path) - 1]) is distinct from 'object'
              and p_payload #> v_path is null then
            raise exception 'expected a place "%" in the payload, found none in %', v_name, left(p_payload::text, 200)
                using errcode = 'WL006', hint = 'Paths are names joined by dots, from the payload on: customer.name';
        end if;
        p_payload := jsonb_set(p_payload, v_path, v_value);
    end loop;
    return p_payload;
end
$$;
