-- A pattern of words as a regular expression over the separator followed by the name: * is exactly one
-- word, # is zero or more (the topic exchange of AMQP 0-9-1). Types separate words by dots, sources by
-- slashes.
create or replace function wakelog.pattern_regex(p_pattern text, p_separator text) returns text
language sql immutable strict parallel safe
return (
    select string_agg(
        case w.word
            when '#' then format('(%1$s[^%2$s]+)*', s.escaped, p_separator)
            when '*' then format('%1$s[^%2$s]+', s.escaped, p_separator)
            else s.escaped || regexp_replace(w.word, '([^[:alnum:]_])', '\\\1', 'g')
        end, '' order by w.ordinal)
    from (select case p_separator when '.' then '\.' else p_separator end) as s (escaped)
    cross join string_to_table(p_pattern, p_separator) with ordinality as w (word, ordinal)
);
