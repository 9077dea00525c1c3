-- Any of several patterns as one regular expression; null, which stands for no restriction, when one of
-- them is #.
create or replace function wakelog.patterns_regex(p_patterns text[], p_separator text) returns text
language sql immutable parallel safe
return (
    select case when not coalesce(bool_or(p.pattern = '#'), true) then
        '^(' || string_agg(wakelog.pattern_regex(p.pattern, p_separator), '|') || ')$'
    end
    from unnest(p_patterns) as p (pattern)
);
