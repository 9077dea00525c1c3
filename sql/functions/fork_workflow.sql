-- Begin a workflow anew from a point in its past: an event of it, a position, or a moment (one of the three). Returns the
-- correlation of the new one. Nothing of the old one changes.
--
-- Both share what lies before the point; nothing of that is copied or done again. The event at the point, with p_changes in
-- its payload ({"path": value}), is delivered to every agent that wants it today; what was open at the point, to those
-- that had not finished it. Of a moment, only the latter. p_agents confines all of it to some agents.
--
-- WL019: there is no such workflow. WL020: nothing would be delivered. WL006: something cannot be used.
create or replace function wakelog.fork_workflow(
    p_correlation text, p_event uuid default null, p_position bigint default null, p_at timestamptz default null,
    p_changes jsonb default '{}', p_agents text[] default null
) returns text
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set enable_nestloop = on
set enable_hashjoin = off
set enable_mergejoin = off
set jit = off
as $$
declare
    v_fork text := wakelog.uuid7()::text;
    v_point record;
    v_open record;
    v_payload jsonb;
    v_copied integer := 0;
    v_changed boolean := coalesce(p_changes, '{}') = '{}';
    v_wanted boolean := false;
begin
    perform wakelog.agent_id(a.name) from unnest(p_agents) as a (name);
    v_point := wakelog.fork_point(p_correlation, p_event, p_position, p_at);
    insert into wakelog.forks (correlation_id, parent, position, reached, as_of, changes, agents)
    values (v_fork, p_correlation, v_point.shared_below, v_point.reached, v_point.as_of, coalesce(p_changes, '{}'), p_agents);

    for v_open in
        select o.position, e.event,
               case when p_agents is null then o.agents
                    when o.agents is null then p_agents
                    else array(select unnest(o.agents) intersect select unnest(p_agents)) end as agents
        from wakelog.open_at(p_correlation, v_point.at_event, v_point.event, v_point.reached, v_point.as_of) o
        cross join lateral (
            select v as event from wakelog.log l join wakelog.events v on v.seq = l.seq where l.position = o.position offset 0) e
        order by o.position
    loop
        continue when v_open.agents = '{}';
        v_payload := (v_open.event).payload;
        if v_open.position = v_point.event and not v_changed then
            v_payload := wakelog.changed_payload(v_payload, p_changes);
            v_changed := true;
        end if;
        perform wakelog.copy_event(v_fork, p_correlation, (v_open.event).seq, v_payload, v_open.agents);
        v_copied := v_copied + 1;
        v_wanted := v_wanted or exists (
            select from wakelog.agents a where a.name = any (v_open.agents) and wakelog.is_for(a, v_open.event));
    end loop;

    if v_copied = 0 or p_agents is not null and not v_wanted then
        raise exception 'nothing of the workflow "%" was open at that point for %, so there is nothing to deliver anew',
            p_correlation, coalesce(array_to_string(p_agents, ', '), 'anybody')
            using errcode = 'WL020', hint = 'Fork from one of its events: wakelog workflow show';
    end if;
    if not v_changed then
        raise exception 'expected the last event before the point, at position %, to be open, found that it was finished then',
            v_point.event
            using errcode = 'WL020', hint = 'Fork from the event whose payload is to be changed.';
    end if;
    return v_fork;
end
$$;
