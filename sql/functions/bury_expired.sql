-- Of deliveries just handed out, give up those whose event has become too old; returns the others. The age of one
-- that was to be delivered later counts from then.
create or replace function wakelog.bury_expired(
    p_agent wakelog.agents, p_positions bigint[], p_now timestamptz
) returns bigint[]
language sql volatile
begin atomic
    select wakelog.bury_untried(
        p_agent, p_positions,
        array(select l.position from wakelog.log l join wakelog.events e on e.seq = l.seq
              where l.position = any (p_positions)
                and greatest(l.sequenced_at, e.deliver_after) < p_now - p_agent.expires),
        'expired', 'the event was older than ' || p_agent.expires, p_now);
end;
