-- A JSON array of strings as text[]; null for null and for an empty one.
create or replace function wakelog.text_array(p_array jsonb) returns text[]
language sql immutable parallel safe
return (
    select array_agg(a.element order by a.ordinal)
    from jsonb_array_elements_text(nullif(p_array, 'null')) with ordinality as a (element, ordinal)
);
