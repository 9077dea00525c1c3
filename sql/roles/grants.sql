-- What each role may do. wakelog_writer: insert events and nothing else, read included (seq, xid and
-- recorded_at are not for it to say). wakelog_reader: look at everything. wakelog_worker: claim and finish
-- work, append, and look. wakelog_keys, beside one of these: write and read what is personal. Rights are taken away and
-- given anew, so that every database has them in one order.
do $$
declare
    v_function regprocedure;
begin
    for v_function in
        select p.oid::regprocedure from pg_catalog.pg_proc p
        where p.pronamespace = 'wakelog'::regnamespace
    loop
        execute pg_catalog.format('revoke all on routine %s from public', v_function);
    end loop;

    -- Whoever may insert, by whatever grant, is asked by the trigger whether inserts are to be looked at.
    grant select on sequence wakelog.guarded to public;

    if exists (select from pg_catalog.pg_roles where rolname = 'wakelog_writer') then
        revoke all on all routines in schema wakelog from wakelog_writer;
        grant usage on schema wakelog to wakelog_writer;
        grant insert (id, type, source, stream, version, payload, metadata, correlation_id, causation_id,
                      idempotency_key, schema_version, occurred_at, deliver_after)
            on wakelog.events to wakelog_writer;
        grant execute on function
            wakelog.uuid7(),
            wakelog.append(text, jsonb, text, bigint, text, text, jsonb, text, uuid, integer, timestamptz, uuid,
                           timestamptz, text),
            wakelog.append_many(jsonb)
            to wakelog_writer;
    end if;

    if exists (select from pg_catalog.pg_roles where rolname = 'wakelog_reader') then
        revoke all on all routines in schema wakelog from wakelog_reader;
        grant usage on schema wakelog to wakelog_reader;
        grant select on all tables in schema wakelog to wakelog_reader;
        revoke select on wakelog.subject_keys from wakelog_reader;
        grant execute on function
            wakelog.clock(), wakelog.clock_offset(), wakelog.lock_space(text), wakelog.without_position(integer),
            wakelog.position_at(timestamptz),
            wakelog.pattern_regex(text, text), wakelog.patterns_regex(text[], text),
            wakelog.behind(wakelog.agents, bigint, bigint),
            wakelog.oldest_waiting(wakelog.agents, bigint, bigint),
            wakelog.worker_alive(wakelog.worker_sessions),
            wakelog.ready_agents(text[]), wakelog.head()
            to wakelog_reader;
        -- Of projections.
        grant execute on function wakelog.projection_id(text), wakelog.wait_until(text, bigint, interval),
            wakelog.snapshot_before(text, integer, text, bigint)
            to wakelog_reader;
        -- Of workflows.
        grant execute on function
            wakelog.events_as_of(timestamptz, bigint), wakelog.moment_of(bigint),
            wakelog.is_for(wakelog.agents, wakelog.events), wakelog.wants(wakelog.agents, wakelog.events),
            wakelog.steps_of(integer, bigint),
            wakelog.ancestry(text), wakelog.workflow_events(text, bigint),
            wakelog.workflow_as_of(text, bigint, timestamptz),
            wakelog.workflow_at(text, bigint, timestamptz), wakelog.workflow_summary(text),
            wakelog.recorded_work(text, text[]), wakelog.unfinished_workflows(),
            wakelog.recent_workflows(bigint, bigint, integer[], bigint),
            wakelog.workflows(timestamptz, text, text, bigint, bigint)
            to wakelog_reader;
        -- Of seals and private fields.
        grant execute on function
            wakelog.merkle_root(bytea), wakelog.seal_hash(wakelog.seals), wakelog.is_restored(),
            wakelog.keys_to_read(bigint[])
            to wakelog_reader;
    end if;

    if exists (select from pg_catalog.pg_roles where rolname = 'wakelog_worker') then
        revoke all on all routines in schema wakelog from wakelog_worker;
        -- Roles made by another account are that one's to grant.
        begin
            if not pg_catalog.pg_has_role('wakelog_worker', 'wakelog_writer', 'member')
               or not pg_catalog.pg_has_role('wakelog_worker', 'wakelog_reader', 'member') then
                grant wakelog_writer, wakelog_reader to wakelog_worker;
            end if;
        exception
            when insufficient_privilege then
                raise warning 'wakelog_worker was not made a member of wakelog_writer and wakelog_reader: % may not do so',
                    current_user;
        end;
        grant execute on function
            wakelog.register_agent(text, jsonb), wakelog.declare_family(text, text[], boolean),
            wakelog.close_family(text, jsonb, boolean),
            wakelog.start_worker(text, text[], boolean), wakelog.stop_worker(bigint),
            wakelog.fall_asleep(bigint, integer), wakelog.wake_up(bigint),
            wakelog.heartbeat(bigint, text[], bigint[], interval),
            wakelog.claim(text, bigint, integer, interval),
            wakelog.ack(text, bigint, bigint, integer, jsonb, jsonb),
            wakelog.ack_many(text, bigint, bigint[], integer[], jsonb),
            wakelog.ack_all(text, bigint, bigint[], integer[], jsonb),
            wakelog.fail(text, bigint, bigint, integer, text, text, interval, boolean),
            wakelog.extend(text, bigint, bigint, integer, interval),
            wakelog.release(text, bigint, bigint[], integer[], interval),
            wakelog.stall(text, bigint, bigint[], integer[], text, interval),
            wakelog.record_step(text, bigint, bigint, integer, text, jsonb),
            wakelog.finished_steps(text, bigint),
            wakelog.sequence(), wakelog.is_restored(), wakelog.rebase(), wakelog.ring(), wakelog.reap_workers(),
            wakelog.make_history_partitions(integer), wakelog.seal(integer),
            wakelog.pause_agent(text), wakelog.resume_agent(text),
            wakelog.rewind_agent(text, bigint, boolean), wakelog.remove_agent(text),
            wakelog.retry_dead(text, bigint), wakelog.discard_dead(text, bigint)
            to wakelog_worker;
        grant execute on procedure wakelog.look(boolean, bigint, bigint, double precision),
            wakelog.look_on(double precision, double precision, bigint, bigint, double precision) to wakelog_worker;
        -- Of projections.
        grant execute on function
            wakelog.register_projection(text, jsonb), wakelog.declare_projection(text, jsonb),
            wakelog.make_tables(integer), wakelog.copy_build(integer, boolean, text, bigint),
            wakelog.attend_build(integer, boolean), wakelog.begin_projecting(integer, integer, bigint, bigint),
            wakelog.finish_projecting(integer, integer, bigint, bigint),
            wakelog.project_once(integer, integer, bigint, bigint), wakelog.next_window(bigint, double precision),
            wakelog.fail_projection(integer, integer, bigint, text), wakelog.hold_serving(integer),
            wakelog.position_to_reach(integer),
            wakelog.serve_build(integer), wakelog.mark_served(integer, text), wakelog.outside_views(text),
            wakelog.hand_down_grants(text, text), wakelog.code_key(integer, integer),
            wakelog.split_build(integer, integer), wakelog.join_parts(integer),
            wakelog.pause_projection(text), wakelog.resume_projection(text, boolean),
            wakelog.forget_build(integer), wakelog.drop_build(integer),
            wakelog.forget_projection(text), wakelog.drop_projection(text)
            to wakelog_worker;
        grant execute on procedure wakelog.project(text) to wakelog_worker;
        -- Of workflows.
        grant execute on function
            wakelog.fork_workflow(text, uuid, bigint, timestamptz, jsonb, text[]), wakelog.begin_rehearsal()
            to wakelog_worker;
    end if;

    if exists (select from pg_catalog.pg_roles where rolname = 'wakelog_keys') then
        revoke all on all routines in schema wakelog from wakelog_keys;
        grant usage on schema wakelog to wakelog_keys;
        grant select on wakelog.subjects, wakelog.subject_keys to wakelog_keys;
        grant execute on function
            wakelog.keys_to_write(text[]), wakelog.keys_to_emit(text[]), wakelog.keys_to_read(bigint[])
            to wakelog_keys;
    end if;
end
$$;
