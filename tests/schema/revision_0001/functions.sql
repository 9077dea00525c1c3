-- Functions, triggers, views and grants as they were at revision 0001. Frozen: what a worker of that time talks to.

-- A version 7 UUID (RFC 9562): 48 bits of milliseconds, then random; new ids land at the right edge of
-- their index. Postgres 18 has its own; this one serves 14 to 17 as well.
create or replace function wakelog.uuid7() returns uuid
language sql volatile parallel safe
return encode(
    set_bit(
        set_bit(
            overlay(
                uuid_send(gen_random_uuid())
                placing substring(int8send((extract(epoch from clock_timestamp()) * 1000)::bigint) from 3)
                from 1 for 6
            ),
            52, 1
        ),
        53, 1
    ),
    'hex'
)::uuid;

-- The time, as every rule about leases, retries and pauses sees it. Tests turn it with the setting
-- wakelog.clock_offset, for a session or (alter database) for everyone.
create or replace function wakelog.clock() returns timestamptz
language sql volatile parallel safe
return clock_timestamp()
    + coalesce(nullif(current_setting('wakelog.clock_offset', true), '')::interval, interval '0');

-- First keys of the advisory locks Wakelog takes; the second key is 0, a worker's id, or the hash of
-- a stream's name. All begin at 'wake' in ASCII, to keep clear of an application's own locks.
create or replace function wakelog.lock_space(p_of text) returns integer
language sql immutable strict parallel safe
return case p_of
    when 'beacon' then 2002873189
    when 'doorkeeper' then 2002873190
    when 'sequencer' then 2002873191
    when 'worker' then 2002873192
    when 'stream' then 2002873193
    when 'streams' then 2002873195
    when 'upgrade' then 2002873194
end;

-- Trigger: the log is append-only, whoever asks.
create or replace function wakelog.refuse_change() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception '% of wakelog.events refused: the log is append-only', tg_op
        using errcode = 'WL004', hint = 'Append an event that corrects the earlier one.';
end
$$;

-- Trigger, for an insert statement that was refused the beacon: the doorkeeper sleeps, so notify it.
--
-- The beacon, one advisory lock, is held shared by every append until its transaction has ended, and
-- exclusively by the doorkeeper while it sleeps. Granted: nobody sleeps, and nobody will before this
-- transaction is visible. Refused: somebody does. A transaction that is going to be prepared (two-phase commit)
-- may not notify: it says set local wakelog.wake = 'off', and its events are found by the doorkeeper's next
-- look, within a second.
create or replace function wakelog.wake() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('wakelog.wake', true) is distinct from 'off' then
        perform pg_notify('wakelog', '');
    end if;
    return null;
end
$$;

-- Trigger: xid is the inserting transaction's own, whatever the row says (a restored dump brings others).
create or replace function wakelog.own_transaction() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    new.xid := pg_current_xact_id();
    return new;
end
$$;

-- Trigger: idempotency keys beginning with 'wakelog:' are those of agents' answers. Somebody else's event under
-- such a key would keep the answer from ever being told.
create or replace function wakelog.refuse_reserved_key() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if not pg_has_role(current_user, (select c.relowner from pg_class c where c.oid = tg_relid), 'member') then
        raise exception 'expected an idempotency key that does not begin with "wakelog:", found "%"',
            new.idempotency_key using errcode = 'WL006';
    end if;
    return new;
end
$$;

-- Let one transaction at a time give out versions of a stream.
--
-- A lock for each stream, so that those who append to different ones never meet. A transaction that has given out
-- thousands of versions would fill the lock table: from there on it holds one lock that stands for all streams,
-- of which everybody else holds a share, and others who append to streams wait for it to end.
create or replace function wakelog.lock_stream(p_stream text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_taken integer := coalesce(nullif(current_setting('wakelog.streams_locked', true), '')::integer, 0);
begin
    if v_taken > 4000 then
        return;
    end if;
    if v_taken = 4000 then
        perform pg_advisory_xact_lock(wakelog.lock_space('streams'), 0);
    else
        perform pg_advisory_xact_lock(wakelog.lock_space('stream'), hashtext(p_stream));
        perform pg_advisory_xact_lock_shared(wakelog.lock_space('streams'), 0);
    end if;
    perform set_config('wakelog.streams_locked', (v_taken + 1)::text, true);
end
$$;

-- Lock several streams in the one order that all keep to, so that two transactions which append to the same
-- ones do not wait for each other.
create or replace function wakelog.lock_streams(p_streams text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stream text;
begin
    for v_stream in
        select min(s.stream) from unnest(p_streams) as s (stream)
        where s.stream is not null
        group by hashtext(s.stream)
        order by hashtext(s.stream)
    loop
        perform wakelog.lock_stream(v_stream);
    end loop;
end
$$;

-- The last version of a stream; 0 where there is no such stream.
create or replace function wakelog.stream_version(p_stream text) returns bigint
language sql volatile
begin atomic
    select coalesce(max(e.version), 0) from wakelog.events e where e.stream = p_stream;
end;

-- Trigger: an event that names its stream and no version gets the stream's next one.
--
-- seq is drawn again once the stream is locked: drawn before, it could be lower than that of the version
-- before, and the log would show the two in the wrong order.
create or replace function wakelog.next_version() returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform wakelog.lock_stream(new.stream);
    new.version := wakelog.stream_version(new.stream) + 1;
    new.seq := nextval('wakelog.events_seq_seq');
    return new;
end
$$;

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

-- An event as the session may see it: who may only insert does not learn, by guessing a key, what others wrote.
create or replace function wakelog.as_may_be_read(p_event wakelog.events) returns wakelog.events
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not has_table_privilege(session_user, 'wakelog.events', 'select') then
        p_event.payload := null;
        p_event.metadata := null;
    end if;
    return p_event;
end
$$;

-- Append one event in the caller's transaction and return it as it stands in the log.
--
-- p_expected_version: the version the stream must be at, 0 for a stream that must be new; otherwise
-- WL001, and nothing is appended. p_idempotency_key: an event of this source that already carries the
-- key is returned as it is, and nothing is appended; its payload and metadata only to those who may read events.
create or replace function wakelog.append(
    p_type text,
    p_payload jsonb default '{}',
    p_stream text default null,
    p_expected_version bigint default null,
    p_source text default '',
    p_idempotency_key text default null,
    p_metadata jsonb default '{}',
    p_correlation_id text default null,
    p_causation_id uuid default null,
    p_schema_version integer default 1,
    p_occurred_at timestamptz default null,
    p_id uuid default null
) returns wakelog.events
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event wakelog.events;
    v_version bigint;
begin
    if starts_with(p_idempotency_key, 'wakelog:') then
        raise exception 'expected an idempotency key that does not begin with "wakelog:", found "%"',
            p_idempotency_key using errcode = 'WL006';
    end if;
    if p_idempotency_key is not null then
        select * into v_event from wakelog.events e
        where e.source = coalesce(p_source, '') and e.idempotency_key = p_idempotency_key;
        if found then
            return wakelog.as_may_be_read(v_event);
        end if;
    end if;

    if p_expected_version is not null then
        v_version := wakelog.expect_version(p_stream, p_expected_version) + 1;
    end if;

    insert into wakelog.events (
        id, type, source, stream, version, payload, metadata, correlation_id, causation_id,
        idempotency_key, schema_version, occurred_at
    ) values (
        coalesce(p_id, wakelog.uuid7()), p_type, coalesce(p_source, ''), p_stream, v_version,
        coalesce(p_payload, '{}'), coalesce(p_metadata, '{}'), p_correlation_id, p_causation_id,
        p_idempotency_key, coalesce(p_schema_version, 1), coalesce(p_occurred_at, clock_timestamp())
    )
    on conflict (source, idempotency_key) do nothing
    returning * into v_event;

    -- Another transaction has just committed an event with this key.
    if not found then
        select * into strict v_event from wakelog.events e
        where e.source = coalesce(p_source, '') and e.idempotency_key = p_idempotency_key;
        return wakelog.as_may_be_read(v_event);
    end if;
    return v_event;
end
$$;

-- Append many events at once, in the order given, and return them in that order as they stand in the log.
--
-- p_events is an array of objects whose keys are the arguments of wakelog.append without p_, among them
-- expected_version. All or nothing: one version conflict (WL001) refuses them all.
create or replace function wakelog.append_many(p_events jsonb) returns setof wakelog.events
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_event record;
begin
    if jsonb_typeof(p_events) is distinct from 'array' then
        raise exception 'append_many expects a JSON array of events, found %',
            coalesce(jsonb_typeof(p_events), 'null') using errcode = 'WL006';
    end if;
    perform wakelog.lock_streams(array_agg(a.event ->> 'stream'))
    from jsonb_array_elements(p_events) as a (event)
    where a.event ->> 'stream' is not null
    having count(*) > 1;

    for v_event in
        select r.* from jsonb_array_elements(p_events) with ordinality as a (event, ordinal)
        cross join lateral jsonb_to_record(a.event) as r (
            type text, payload jsonb, stream text, expected_version bigint, source text,
            idempotency_key text, metadata jsonb, correlation_id text, causation_id uuid,
            schema_version integer, occurred_at timestamptz, id uuid
        )
        order by a.ordinal
    loop
        return query select a.* from wakelog.append(
            v_event.type, v_event.payload, v_event.stream, v_event.expected_version, v_event.source,
            v_event.idempotency_key, v_event.metadata, v_event.correlation_id, v_event.causation_id,
            v_event.schema_version, v_event.occurred_at, v_event.id
        ) as a;
    end loop;
end
$$;

-- Events visible in p_now and not in p_last: two range scans of the index on xid, whatever else is open.
-- Those up to p_rebased had their places, by a rebase, in spite of what their xids say.
-- "is true" keeps that condition off the primary key. The array makes the second one a lookup per transaction;
-- a join would scan the whole index.
create or replace function wakelog.unsequenced(p_last pg_snapshot, p_now pg_snapshot, p_rebased bigint)
returns table (seq bigint, type text)
language sql stable
begin atomic
    select e.seq, e.type from wakelog.events e
    where e.xid >= pg_snapshot_xmax(p_last) and e.xid < pg_snapshot_xmax(p_now)
      and pg_visible_in_snapshot(e.xid, p_now)
      and (e.seq > p_rebased) is true
    union all
    select e.seq, e.type from wakelog.events e
    where e.xid = any (array(
        select x.id from pg_snapshot_xip(p_last) as x (id) where pg_visible_in_snapshot(x.id, p_now)))
      and (e.seq > p_rebased) is true;
end;

-- Refuse to compare snapshots of different clusters, or one that runs backwards: that would lose events.
create or replace function wakelog.check_snapshot(p_last wakelog.sequencer, p_now pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_last.system_identifier <> (select c.system_identifier from pg_control_system() c) then
        raise exception 'the log was sequenced in another cluster (restored from a dump?)'
            using errcode = 'WL005', hint = 'Run: wakelog db rebase (a worker does so by itself).';
    end if;
    if pg_snapshot_xmax(p_now) < pg_snapshot_xmax(p_last.snapshot) then
        raise exception 'transaction ids run backwards: the log was sequenced up to %, now is %',
            pg_snapshot_xmax(p_last.snapshot), pg_snapshot_xmax(p_now)
            using errcode = 'WL005',
                  hint = 'If this server was reset or restored by hand, run: wakelog db rebase';
    end if;
end
$$;

-- Have this transaction wait for the disk, in a session that does without.
create or replace function wakelog.commit_durably() returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('synchronous_commit') = 'off' then
        perform set_config('synchronous_commit', 'on', true);
    end if;
end
$$;

-- The time an event becomes part of the log. A turned clock (see wakelog.clock) counts only in a session of
-- those who own the log: what it says here stays for ever.
create or replace function wakelog.log_clock() returns timestamptz
language sql volatile
begin atomic
    select case
        when pg_has_role(session_user, (select n.nspowner from pg_namespace n where n.nspname = 'wakelog'),
                         'member') then wakelog.clock()
        else clock_timestamp()
    end;
end;

-- Enter the types that appear for the first time, and the agents whose patterns they match.
-- Runs under the sequencer's lock, as does the registration of agents, so neither misses the other.
create or replace function wakelog.learn_types(p_last wakelog.sequencer, p_now pg_snapshot)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    with known as (
        insert into wakelog.types (type, first_position, last_position)
        select distinct u.type, p_last.head + 1, p_last.head
        from wakelog.unsequenced(p_last.snapshot, p_now, p_last.rebased_seq) u
        where not exists (select from wakelog.types t where t.type = u.type)
        returning id, type
    )
    insert into wakelog.agent_types (agent_id, type_id)
    select a.id, k.id
    from known k
    join wakelog.agents a on '.' || k.type ~ a.type_regex
    where k.type not in (a.name || '.completed', a.name || '.failed');
end
$$;

-- Give every event that has become visible since the last run its position; return how many, or null when
-- another session is at it.
--
-- Two snapshots are compared, the last run's and this one's. New are the events visible now whose
-- transaction either began after the last snapshot (xid >= its xmax) or was running then (in its xip).
-- Rollbacks, slow transactions and foreign ones need no special case, and nothing waits for anybody.
--
-- The snapshot is taken once, after the lock and before this transaction has an id of its own: later
-- statements see more, so each row is tested against that one value; and events this transaction itself
-- inserts afterwards, like any that began later, have an xid at or above its xmax.
--
-- Plans are fixed on the index, whatever the statistics say after a bulk load; their costs then look so high
-- that JIT would compile each for 200 ms.
--
-- Positions never change once seen, so they are committed durably, whatever the session says of itself. Those
-- who follow the log hear of it on the channel wakelog_log.
create or replace function wakelog.sequence() returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_now pg_snapshot;
    v_last wakelog.sequencer;
    v_at timestamptz;
    v_count bigint;
begin
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'wakelog.sequence() was called in a transaction that has already written'
            using errcode = 'WL005', hint = 'Call it in a transaction of its own.';
    end if;
    if not pg_try_advisory_xact_lock(wakelog.lock_space('sequencer'), 0) then
        return null;
    end if;
    v_now := pg_current_snapshot();
    select * into strict v_last from wakelog.sequencer;
    perform wakelog.check_snapshot(v_last, v_now);

    if not exists (select from wakelog.unsequenced(v_last.snapshot, v_now, v_last.rebased_seq)) then
        -- A transaction that began since then and goes on may be loading many events: remembered as running,
        -- it is no longer looked through each time. Losing this in a crash would do no harm.
        if exists (select from pg_snapshot_xip(v_now) as x (id)
                   where x.id >= pg_snapshot_xmax(v_last.snapshot)) then
            perform set_config('synchronous_commit', 'off', true);
            update wakelog.sequencer s set snapshot = v_now;
        end if;
        return 0;
    end if;
    perform wakelog.commit_durably();
    perform wakelog.learn_types(v_last, v_now);

    v_at := greatest(v_last.sequenced_at, wakelog.log_clock());
    with placed as (
        insert into wakelog.log (position, seq, type_id, sequenced_at)
        select v_last.head + row_number() over (order by u.seq), u.seq, t.id, v_at
        from wakelog.unsequenced(v_last.snapshot, v_now, v_last.rebased_seq) u
        join wakelog.types t on t.type = u.type
        returning position, type_id
    ),
    moved as (
        update wakelog.types t set last_position = p.last_position
        from (select type_id, max(position) as last_position from placed group by type_id) p
        where t.id = p.type_id
    )
    update wakelog.sequencer s
    set head = s.head + (select count(*) from placed), snapshot = v_now, sequenced_at = v_at
    returning s.head - v_last.head into v_count;
    perform pg_notify('wakelog_log', '');
    return v_count;
end
$$;

-- Whether this database was sequenced in another cluster before it came here, from a dump or a copy.
create or replace function wakelog.is_restored() returns boolean
language sql stable
security definer
begin atomic
    select s.system_identifier <> c.system_identifier
    from wakelog.sequencer s cross join pg_control_system() c;
end;

-- Begin to count transaction ids anew, after a restore into another cluster: give every event that is not
-- in the log its position, whatever its xid says, and take this cluster's snapshot as the last one.
-- Positions are data and stay. Appends wait meanwhile, so that none is half seen. Returns how many events
-- were added.
create or replace function wakelog.rebase() returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now pg_snapshot;
    v_head bigint;
    v_at timestamptz;
    v_count bigint;
begin
    if pg_current_xact_id_if_assigned() is not null then
        raise exception 'wakelog.rebase() was called in a transaction that has already written'
            using errcode = 'WL005', hint = 'Call it in a transaction of its own.';
    end if;
    perform pg_advisory_xact_lock(wakelog.lock_space('sequencer'), 0);
    lock table wakelog.events in share mode;
    v_now := pg_current_snapshot();
    select s.head, greatest(s.sequenced_at, wakelog.log_clock()) into strict v_head, v_at
    from wakelog.sequencer s;

    insert into wakelog.types (type, first_position, last_position)
    select distinct e.type, v_head + 1, v_head from wakelog.events e
    where not exists (select from wakelog.log l where l.seq = e.seq)
    on conflict (type) do nothing;

    insert into wakelog.agent_types (agent_id, type_id)
    select a.id, t.id from wakelog.types t join wakelog.agents a on '.' || t.type ~ a.type_regex
    where t.type not in (a.name || '.completed', a.name || '.failed')
    on conflict do nothing;

    with placed as (
        insert into wakelog.log (position, seq, type_id, sequenced_at)
        select v_head + row_number() over (order by e.seq), e.seq, t.id, v_at
        from wakelog.events e join wakelog.types t on t.type = e.type
        where not exists (select from wakelog.log l where l.seq = e.seq)
        returning position, type_id
    ),
    moved as (
        update wakelog.types t set last_position = p.last_position
        from (select type_id, max(position) as last_position from placed group by type_id) p
        where t.id = p.type_id
    )
    update wakelog.sequencer s
    set head = v_head + (select count(*) from placed), snapshot = v_now, sequenced_at = v_at,
        rebased_seq = coalesce((select max(e.seq) from wakelog.events e), 0),
        system_identifier = (select c.system_identifier from pg_control_system() c)
    returning s.head - v_head into v_count;
    return v_count;
end
$$;

-- The last position the log had at a moment; 0 before the first. A binary search, since sequenced_at never
-- decreases with position.
create or replace function wakelog.position_at(p_at timestamptz) returns bigint
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_low bigint := 0;
    v_high bigint;
    v_middle bigint;
begin
    select s.head into strict v_high from wakelog.sequencer s;
    while v_low < v_high loop
        v_middle := (v_low + v_high + 1) / 2;
        if (select l.sequenced_at <= p_at from wakelog.log l where l.position = v_middle) then
            v_low := v_middle;
        else
            v_high := v_middle - 1;
        end if;
    end loop;
    return v_low;
end
$$;

-- The seqs of events that are committed and have no position yet, p_limit at most. Normally none for longer than
-- the doorkeeper takes.
create or replace function wakelog.without_position(p_limit integer default 10000) returns setof bigint
language sql stable
security definer
begin atomic
    select u.seq from wakelog.sequencer s
    cross join lateral wakelog.unsequenced(s.snapshot, pg_current_snapshot(), s.rebased_seq) u
    limit p_limit;
end;

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

-- A JSON array of strings as text[]; null for null and for an empty one.
create or replace function wakelog.text_array(p_array jsonb) returns text[]
language sql immutable parallel safe
return (
    select array_agg(a.element order by a.ordinal)
    from jsonb_array_elements_text(nullif(p_array, 'null')) with ordinality as a (element, ordinal)
);

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

-- The id of an agent by its name; WL003 where there is none.
create or replace function wakelog.agent_id(p_name text) returns integer
language plpgsql stable
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id integer;
begin
    select a.id into v_id from wakelog.agents a where a.name = p_name;
    if v_id is null then
        raise exception 'there is no agent "%"', p_name
            using errcode = 'WL003', hint = 'See: wakelog agents list';
    end if;
    return v_id;
end
$$;

-- Read an agent's options into a row of wakelog.agents; WL006 for one that is unknown or unusable.
create or replace function wakelog.agent_from_options(p_name text, p_options jsonb) returns wakelog.agents
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent wakelog.agents;
    v_unknown text;
begin
    select string_agg(k.key, ', ') into v_unknown
    from jsonb_object_keys(p_options) as k (key)
    where k.key not in ('types', 'sources', 'metadata', 'payload_path', 'timeout', 'max_attempts',
                        'max_stalled', 'backoff', 'concurrency', 'ordered_by', 'rate', 'expires', 'history', 'start');
    if v_unknown is not null then
        raise exception 'agent "%" has options that are not known: %', p_name, v_unknown
            using errcode = 'WL006';
    end if;
    v_agent.name := p_name;
    v_agent.types := wakelog.text_array(p_options -> 'types');
    v_agent.sources := wakelog.text_array(p_options -> 'sources');
    if v_agent.types is null then
        raise exception 'agent "%" must say which types it wants, "#" for all', p_name
            using errcode = 'WL006';
    end if;
    v_agent.type_regex := wakelog.patterns_regex(v_agent.types, '.');
    v_agent.source_regex := wakelog.patterns_regex(v_agent.sources, '/');
    v_agent.metadata := nullif(p_options -> 'metadata', 'null');
    v_agent.payload_path := (p_options ->> 'payload_path')::jsonpath;
    v_agent.timeout := make_interval(secs => coalesce((p_options ->> 'timeout')::double precision, 300));
    v_agent.max_attempts := coalesce((p_options ->> 'max_attempts')::integer, 5);
    v_agent.max_stalled := coalesce((p_options ->> 'max_stalled')::integer, 10);
    v_agent.backoff := coalesce(nullif(p_options -> 'backoff', 'null'),
                                '{"kind": "exponential", "delay": 1, "max": 300, "jitter": 0}');
    perform wakelog.backoff(v_agent.backoff, 1);
    v_agent.concurrency := (p_options ->> 'concurrency')::integer;
    v_agent.ordered_by := p_options ->> 'ordered_by';
    if v_agent.ordered_by !~ '^(stream|correlation|source|(metadata|payload)(\.[^.]+)+)$' then
        raise exception 'agent "%" is ordered by stream, correlation, source, metadata.<path> or payload.<path>, found "%"',
            p_name, v_agent.ordered_by using errcode = 'WL006';
    end if;
    v_agent.rate_count := (p_options #>> '{rate,count}')::integer;
    v_agent.rate_window := make_interval(secs => (p_options #>> '{rate,window}')::double precision);
    v_agent.expires := make_interval(secs => (p_options ->> 'expires')::double precision);
    v_agent.keeps_history := coalesce((p_options ->> 'history')::boolean, true);
    return v_agent;
end
$$;

-- The cursor of an agent that starts at p_start: "now", "beginning", the first position wanted, or a time.
create or replace function wakelog.start_position(p_start jsonb) returns bigint
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    case
        when p_start = '"beginning"' then
            return 0;
        when p_start = '"now"' then
            return (select s.head from wakelog.sequencer s);
        when jsonb_typeof(p_start) = 'number' then
            return greatest((p_start #>> '{}')::bigint - 1, 0);
        else
            return wakelog.position_at((p_start #>> '{}')::timestamptz);
    end case;
end
$$;

-- Make an agent known, or change it; return its id. Where it starts counts only the first time.
--
-- p_options, all of them optional but types: types, sources (arrays of patterns), metadata (an object the
-- event's metadata must contain), payload_path (a jsonpath predicate), timeout (seconds), max_attempts,
-- max_stalled, backoff (see wakelog.backoff), concurrency, ordered_by,
-- rate ({"count": n, "window": seconds}), expires (seconds), history (boolean),
-- start: "now" (the default: events committed from here on), "beginning", a position (number: the first
-- one wanted), or a time (text).
--
-- A transaction of its own, please: it holds the sequencer's lock to its commit, so that a type appearing at
-- this moment is not missed; and sequences first, so that "now" is now.
create or replace function wakelog.register_agent(p_name text, p_options jsonb) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent wakelog.agents;
begin
    perform pg_advisory_xact_lock(wakelog.lock_space('sequencer'), 0);
    if pg_current_xact_id_if_assigned() is null then
        perform wakelog.sequence();
    end if;
    v_agent := wakelog.agent_from_options(p_name, p_options);

    insert into wakelog.agents as a (
        name, types, sources, metadata, payload_path, type_regex, source_regex, timeout, max_attempts,
        max_stalled, backoff, concurrency, ordered_by, rate_count, rate_window,
        expires, keeps_history
    ) values (
        v_agent.name, v_agent.types, v_agent.sources, v_agent.metadata, v_agent.payload_path,
        v_agent.type_regex, v_agent.source_regex, v_agent.timeout, v_agent.max_attempts,
        v_agent.max_stalled, v_agent.backoff, v_agent.concurrency, v_agent.ordered_by,
        v_agent.rate_count, v_agent.rate_window, v_agent.expires, v_agent.keeps_history
    )
    on conflict (name) do update set
        types = excluded.types, sources = excluded.sources, metadata = excluded.metadata,
        payload_path = excluded.payload_path, type_regex = excluded.type_regex,
        source_regex = excluded.source_regex, timeout = excluded.timeout,
        max_attempts = excluded.max_attempts, max_stalled = excluded.max_stalled,
        backoff = excluded.backoff, concurrency = excluded.concurrency,
        ordered_by = excluded.ordered_by, rate_count = excluded.rate_count,
        rate_window = excluded.rate_window, expires = excluded.expires,
        keeps_history = excluded.keeps_history, updated_at = clock_timestamp()
    returning a.* into v_agent;

    insert into wakelog.cursors (agent_id, position)
    values (v_agent.id, wakelog.start_position(coalesce(p_options -> 'start', '"now"')))
    on conflict (agent_id) do nothing;

    delete from wakelog.agent_types where agent_id = v_agent.id;
    insert into wakelog.agent_types (agent_id, type_id)
    select v_agent.id, t.id from wakelog.types t
    where '.' || t.type ~ v_agent.type_regex
      and t.type not in (p_name || '.completed', p_name || '.failed');
    return v_agent.id;
end
$$;

-- Hand out nothing more to an agent until it is resumed; what is being worked on is finished.
create or replace function wakelog.pause_agent(p_agent text) returns void
language sql volatile
security definer
begin atomic
    update wakelog.agents a set paused_at = coalesce(a.paused_at, wakelog.clock())
    where a.id = wakelog.agent_id(p_agent);
end;

-- Go on where a paused agent stopped, and wake a worker for it.
create or replace function wakelog.resume_agent(p_agent text) returns void
language sql volatile
security definer
begin atomic
    update wakelog.agents a set paused_at = null where a.id = wakelog.agent_id(p_agent);
    select pg_notify('wakelog', 'ring');
end;

-- Let an agent see the log again from p_position, the first one delivered anew. Returns how many positions
-- it goes back (negative: forward, skipping).
--
-- What is being worked on, or waits for a retry, at or after p_position stays as it is: it is delivered anew
-- only if it has finished by the time the agent comes by. Dead letters from there on go, since they are
-- delivered anew; so do finished steps, unless p_keep_steps. Emissions keep their idempotency keys: what was
-- emitted before is not emitted twice.
create or replace function wakelog.rewind_agent(
    p_agent text, p_position bigint, p_keep_steps boolean default false
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent_id integer := wakelog.agent_id(p_agent);
    v_head bigint;
    v_cursor bigint;
begin
    select c.position into strict v_cursor from wakelog.cursors c where c.agent_id = v_agent_id for update;
    select s.head into strict v_head from wakelog.sequencer s;
    if p_position is null or p_position not between 1 and v_head + 1 then
        raise exception 'expected a position from 1 to %, found %', v_head + 1, p_position
            using errcode = 'WL006';
    end if;
    update wakelog.cursors c set position = p_position - 1 where c.agent_id = v_agent_id;
    if p_position <= v_cursor then
        -- One that is locked is being retried or let go at this moment; waiting for it could be a deadlock.
        with anew as (
            select d.position from wakelog.dead d
            where d.agent_id = v_agent_id and d.position >= p_position
            for update skip locked
        )
        delete from wakelog.dead d using anew a where d.agent_id = v_agent_id and d.position = a.position;
        delete from wakelog.steps s
        where s.agent_id = v_agent_id and s.position >= p_position and not p_keep_steps
          and not exists (select from wakelog.deliveries d
                          where d.agent_id = s.agent_id and d.position = s.position);
    end if;
    perform pg_notify('wakelog', 'ring');
    return v_cursor - (p_position - 1);
end
$$;

-- Forget an agent: its cursor, its deliveries, dead letters, steps and history. What is being worked on can
-- no longer be finished. The events stay.
create or replace function wakelog.remove_agent(p_agent text) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent_id integer := wakelog.agent_id(p_agent);
begin
    perform from wakelog.cursors c where c.agent_id = v_agent_id for update;
    delete from wakelog.deliveries d where d.agent_id = v_agent_id;
    delete from wakelog.dead d where d.agent_id = v_agent_id;
    delete from wakelog.steps s where s.agent_id = v_agent_id;
    delete from wakelog.history h where h.agent_id = v_agent_id;
    delete from wakelog.agents a where a.id = v_agent_id;
end
$$;

-- Whether an agent wants an event, apart from its type: source patterns, metadata, a jsonpath predicate.
create or replace function wakelog.wants(p_agent wakelog.agents, p_event wakelog.events) returns boolean
language sql stable
begin atomic
    select (p_agent.source_regex is null or '/' || p_event.source ~ p_agent.source_regex)
       and (p_agent.metadata is null or p_event.metadata @> p_agent.metadata)
       and (p_agent.payload_path is null or coalesce(
               jsonb_path_match_tz(p_event.payload, p_agent.payload_path, '{}', true), false));
end;

-- The types an agent wants of which something lies above p_after.
create or replace function wakelog.moved_types(p_agent_id integer, p_after bigint)
returns table (type_id integer)
language sql stable
begin atomic
    select t.id from wakelog.agent_types w join wakelog.types t on t.id = w.type_id
    where w.agent_id = p_agent_id and t.last_position > p_after;
end;

-- The types in which an agent tells its own outcomes. No pattern of its own matches them, or an agent that
-- wants everything would answer itself for ever.
create or replace function wakelog.own_outcomes(p_agent_name text) returns integer[]
language sql stable
begin atomic
    select array(select t.id from wakelog.types t
                 where t.type in (p_agent_name || '.completed', p_agent_name || '.failed'));
end;

-- The next positions an agent wants, in log order: above p_after, up to p_upto, at most p_limit.
--
-- Three ways to look: along the log for an agent that wants every type; along the index of each type and
-- merged for one that wants few; along the log, skipping the rest, for one that wants many.
create or replace function wakelog.wanted_positions(
    p_agent wakelog.agents, p_after bigint, p_upto bigint, p_limit bigint
) returns setof bigint
language plpgsql stable rows 500
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
set jit = off
set plan_cache_mode = force_generic_plan
as $$
declare
    v_filtered boolean := p_agent.source_regex is not null or p_agent.metadata is not null
                          or p_agent.payload_path is not null;
    v_types integer[];
    v_own integer[];
begin
    if p_agent.type_regex is null then
        v_own := wakelog.own_outcomes(p_agent.name);
        if not v_filtered then
            return query
            select l.position from wakelog.log l
            where l.position > p_after and l.position <= p_upto and l.type_id <> all (v_own)
            order by l.position limit p_limit;
        else
            return query
            select l.position from wakelog.log l join wakelog.events e on e.seq = l.seq
            where l.position > p_after and l.position <= p_upto and l.type_id <> all (v_own)
              and wakelog.wants(p_agent, e)
            order by l.position limit p_limit;
        end if;
        return;
    end if;

    v_types := array(select moved.type_id from wakelog.moved_types(p_agent.id, p_after) moved);
    if cardinality(v_types) <= 16 then
        return query
        select w.position
        from unnest(v_types) as t (type_id)
        cross join lateral (
            select l.position from wakelog.log l
            where l.type_id = t.type_id and l.position > p_after and l.position <= p_upto
              and (not v_filtered or (
                  select wakelog.wants(p_agent, e) from wakelog.events e where e.seq = l.seq))
            order by l.position limit p_limit
        ) w
        order by w.position limit p_limit;
    else
        return query
        select l.position from wakelog.log l
        where l.position > p_after and l.position <= p_upto
          and l.type_id = any (v_types)
          and (not v_filtered or (
              select wakelog.wants(p_agent, e) from wakelog.events e where e.seq = l.seq))
        order by l.position limit p_limit;
    end if;
end
$$;

-- Whether something an agent may want lies above its cursor. Looks at types only: the other filters may
-- still turn it all down.
create or replace function wakelog.has_fresh(p_agent wakelog.agents, p_cursor bigint) returns boolean
language sql stable
begin atomic
    select case
        when p_agent.type_regex is null
            then (select s.head from wakelog.sequencer s) > p_cursor
        else exists (select from wakelog.moved_types(p_agent.id, p_cursor))
    end;
end;

-- How many deliveries of an agent are with workers whose lease still runs.
create or replace function wakelog.running(p_agent_id integer, p_now timestamptz) returns bigint
language sql stable
begin atomic
    select count(*) from wakelog.deliveries d
    where d.agent_id = p_agent_id and d.available_at > p_now and d.worker is not null;
end;

-- Refuse a worker that is not, or no longer, registered: it was found dead and must start anew.
create or replace function wakelog.check_worker(p_worker bigint) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from wakelog.worker_sessions w where w.id = p_worker) then
        raise exception 'worker % is not registered', p_worker
            using errcode = 'WL007', hint = 'Register it (again): select wakelog.start_worker(...)';
    end if;
end
$$;

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

-- The event that tells an agent's result, as wakelog.emit takes it.
create or replace function wakelog.completed(p_agent text, p_position bigint, p_result jsonb) returns jsonb
language sql immutable
begin atomic
    select jsonb_build_object('position', p_position, 'key', 'completed', 'type', p_agent || '.completed',
                              'payload', p_result);
end;

-- Append events that an agent answers with, each carrying on the correlation of the event it answers and
-- naming it as its cause.
--
-- p_events is an array of objects: position (of the event answered), key (unlike any other of this agent
-- for this event), type, and optionally payload, source, stream, metadata, correlation_id, schema_version.
-- The idempotency key is made of agent, event and key, so a repeated attempt adds nothing; its prefix is reserved.
create or replace function wakelog.emit(p_agent text, p_events jsonb) returns void
language sql volatile
begin atomic
    select wakelog.lock_streams(array_agg(a.event ->> 'stream'))
    from jsonb_array_elements(p_events) as a (event)
    where a.event ->> 'stream' is not null
    having count(*) > 1;

    insert into wakelog.events (
        type, source, stream, payload, metadata, correlation_id, causation_id, idempotency_key,
        schema_version
    )
    select n.type, coalesce(n.source, p_agent), n.stream, coalesce(n.payload, '{}'),
           coalesce(n.metadata, '{}'),
           coalesce(n.correlation_id, cause.correlation_id, cause.id::text), cause.id,
           'wakelog:' || p_agent || '/' || cause.id || '/' || n.key, coalesce(n.schema_version, 1)
    from jsonb_array_elements(p_events) with ordinality as a (event, ordinal)
    cross join lateral jsonb_to_record(a.event) as n (
        position bigint, key text, type text, payload jsonb, source text, stream text, metadata jsonb,
        correlation_id text, schema_version integer
    )
    join wakelog.log l on l.position = n.position
    join wakelog.events cause on cause.seq = l.seq
    order by a.ordinal
    on conflict (source, idempotency_key) do nothing;
end;

-- Give a delivery up: it becomes a dead letter, and the event <agent>.failed tells everybody.
create or replace function wakelog.bury(p_agent wakelog.agents, p_delivery wakelog.deliveries, p_reason text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_error text := p_delivery.failures -> -1 ->> 'error';
begin
    delete from wakelog.deliveries d
    where d.agent_id = p_agent.id and d.position = p_delivery.position;

    insert into wakelog.dead (
        agent_id, position, attempts, stalled, reason, error, failures, first_claimed_at, died_at
    ) values (
        p_agent.id, p_delivery.position, p_delivery.attempt, p_delivery.stalled, p_reason, v_error,
        p_delivery.failures, p_delivery.first_claimed_at, wakelog.clock()
    )
    on conflict (agent_id, position) do update set
        attempts = excluded.attempts, stalled = excluded.stalled, reason = excluded.reason,
        error = excluded.error, failures = excluded.failures, died_at = excluded.died_at;

    if p_delivery.key is not null then
        perform wakelog.step_forward(p_agent.id, array[p_delivery.key]);
    end if;

    perform wakelog.emit(p_agent.name, jsonb_build_array(jsonb_build_object(
        'position', p_delivery.position,
        -- Buried once each time, since the delivery's row goes; a second death is told again.
        'key', 'failed/' || extract(epoch from wakelog.clock()),
        'type', p_agent.name || '.failed',
        'payload', jsonb_build_object('reason', p_reason, 'error', v_error,
                                      'attempts', p_delivery.attempt, 'position', p_delivery.position))));
end
$$;

-- Give up the deliveries over which workers have died too often.
create or replace function wakelog.bury_stalled(p_agent wakelog.agents, p_now timestamptz) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery wakelog.deliveries;
begin
    for v_delivery in
        select d.* from wakelog.deliveries d
        where d.agent_id = p_agent.id and d.available_at <= p_now
          and d.worker is not null and d.stalled >= p_agent.max_stalled
        for update skip locked
    loop
        v_delivery.stalled := v_delivery.stalled + 1;
        v_delivery.failures := wakelog.add_failure(
            v_delivery.failures, v_delivery.attempt, v_delivery.worker, v_delivery.claimed_at, p_now,
            'stalled', 'the worker died or let its lease run out', null);
        perform wakelog.bury(p_agent, v_delivery, 'stalled');
    end loop;
end
$$;

-- How many more may start now without more than rate_count in any rate_window; null for an agent without a rate.
--
-- A worker starts what it claims within 50 ms or gives it back. The window looks back so much further, and what is
-- true of the claims is true of the starts.
create or replace function wakelog.pace(p_agent wakelog.agents, p_now timestamptz) returns bigint
language sql stable
begin atomic
    select p_agent.rate_count - (
        select count(*) from wakelog.starts s
        where s.agent_id = p_agent.id
          and s.started_at > p_now - p_agent.rate_window - interval '50 milliseconds')
    where p_agent.rate_count is not null;
end;

-- Remember what was handed out just now, and forget what no window looks back to.
create or replace function wakelog.keep_pace(p_agent wakelog.agents, p_now timestamptz, p_count bigint)
returns void
language sql volatile
begin atomic
    delete from wakelog.starts s
    where s.agent_id = p_agent.id and s.started_at <= p_now - p_agent.rate_window - interval '1 second';
    insert into wakelog.starts (agent_id, started_at)
    select p_agent.id, p_now from generate_series(1, p_count);
end;

-- Of deliveries just handed out, give up those whose event has become too old; returns the others.
create or replace function wakelog.bury_expired(
    p_agent wakelog.agents, p_positions bigint[], p_now timestamptz
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery wakelog.deliveries;
    v_expired bigint[] := '{}'::bigint[];
begin
    for v_delivery in
        select d.* from wakelog.deliveries d join wakelog.log l on l.position = d.position
        where d.agent_id = p_agent.id and d.position = any (p_positions)
          and l.sequenced_at < p_now - p_agent.expires
        order by d.position
    loop
        v_delivery.attempt := v_delivery.attempt - 1;
        v_delivery.failures := wakelog.add_failure(
            v_delivery.failures, v_delivery.attempt, null, null, p_now, 'expired',
            'the event was older than ' || p_agent.expires, null);
        perform wakelog.bury(p_agent, v_delivery, 'expired');
        v_expired := v_expired || v_delivery.position;
    end loop;
    return array(
        select p.position from unnest(p_positions) with ordinality as p (position, ordinal)
        where p.position <> all (v_expired) order by p.ordinal);
end
$$;

-- Take over deliveries that are due: retries, work given back, and work whose worker let its lease run out
-- or died. The last kind counts as stalled, and is given up when that happens too often.
create or replace function wakelog.claim_late(
    p_agent wakelog.agents, p_worker bigint, p_limit bigint, p_now timestamptz, p_lease interval
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_positions bigint[];
begin
    if not exists (
        select from wakelog.deliveries d where d.agent_id = p_agent.id and d.available_at <= p_now
    ) then
        return '{}'::bigint[];
    end if;
    perform wakelog.bury_stalled(p_agent, p_now);

    with due as (
        select d.position from wakelog.deliveries d
        where d.agent_id = p_agent.id and d.available_at <= p_now
        order by d.available_at, d.position
        limit p_limit
        for update skip locked
    ),
    taken as (
        update wakelog.deliveries d
        set worker = p_worker,
            attempt = d.attempt + 1,
            stalled = d.stalled + (d.worker is not null)::integer,
            failures = case when d.worker is null then d.failures else
                wakelog.add_failure(d.failures, d.attempt, d.worker, d.claimed_at, p_now, 'stalled',
                                    'the worker died or let its lease run out', null) end,
            claimed_at = p_now,
            available_at = p_now + p_lease
        from due
        where d.agent_id = p_agent.id and d.position = due.position
        returning d.position
    )
    select coalesce(array_agg(t.position order by t.position), '{}') into v_positions from taken t;
    return v_positions;
end
$$;

-- Hand out the next events after the agent's cursor, and move it. Looks at no more than 100,000
-- positions at a time, so that an agent that wants almost nothing holds nobody up for long.
create or replace function wakelog.claim_fresh(
    p_agent wakelog.agents, p_cursor bigint, p_worker bigint, p_limit bigint, p_now timestamptz,
    p_lease interval
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_head bigint;
    v_upto bigint;
    v_positions bigint[] := '{}'::bigint[];
begin
    -- The head is read first: what is asked afterwards may see more of the log, never less.
    select s.head into strict v_head from wakelog.sequencer s;
    if v_head <= p_cursor then
        return '{}'::bigint[];
    end if;
    -- An agent none of whose types has moved goes to the head without reading anything.
    v_upto := v_head;
    if wakelog.has_fresh(p_agent, p_cursor) then
        v_upto := least(v_head, p_cursor + 100000);
        v_positions := array(select wakelog.wanted_positions(p_agent, p_cursor, v_upto, p_limit));
    end if;

    update wakelog.cursors c
    set position = case when cardinality(v_positions) = p_limit
                        then v_positions[cardinality(v_positions)] else v_upto end
    where c.agent_id = p_agent.id;

    -- After a rewind the event may still be with a worker, or waiting for a retry: it is not handed out twice.
    with handed as (
        insert into wakelog.deliveries (
            agent_id, position, worker, attempt, available_at, claimed_at, first_claimed_at)
        select p_agent.id, p.position, p_worker, 1, p_now + p_lease, p_now, p_now
        from unnest(v_positions) as p (position)
        on conflict (agent_id, position) do nothing
        returning position
    )
    select coalesce(array_agg(h.position order by h.position), '{}') into v_positions from handed h;
    return v_positions;
end
$$;

-- What an event's place in line is decided by; null, which stands in no line, where the event has no such value.
create or replace function wakelog.order_key(p_ordered_by text, p_event wakelog.events) returns text
language sql stable
begin atomic
    select case split_part(p_ordered_by, '.', 1)
        when 'stream' then p_event.stream
        when 'source' then nullif(p_event.source, '')
        when 'correlation' then coalesce(p_event.correlation_id, p_event.id::text)
        when 'metadata' then p_event.metadata #>> (string_to_array(p_ordered_by, '.'))[2:]
        when 'payload' then p_event.payload #>> (string_to_array(p_ordered_by, '.'))[2:]
    end;
end;

-- Those of the keys that have a line already, with its first row locked until this transaction ends.
--
-- The lock is what keeps a line from being forgotten. Who finishes the first of a line deletes its row, and then
-- lets the next one step forward; whoever adds to the line at that moment must either be seen by that, or see
-- that the line has gone. So: lock first, look again after. In the order of position, as those who finish do.
create or replace function wakelog.busy_keys(p_agent_id integer, p_keys text[]) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    perform from wakelog.deliveries d
    where d.agent_id = p_agent_id
      and d.position in (
          select f.position from (select distinct unnest(p_keys) as key) k
          cross join lateral (
              select x.position from wakelog.deliveries x
              where x.agent_id = p_agent_id and x.key = k.key
              order by x.position limit 1) f)
    order by d.position
    for share;

    return array(
        select k.key from (select distinct unnest(p_keys) as key) k
        where exists (select from wakelog.deliveries x where x.agent_id = p_agent_id and x.key = k.key));
end
$$;

-- Let the first in line of each of these keys be claimed, if it stood behind another until now. Sees what is
-- committed at this moment, so the transaction must be one that reads committed data.
create or replace function wakelog.step_forward(p_agent_id integer, p_keys text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_isolation') <> 'read committed' then
        raise exception 'an ordered agent''s work is finished at isolation level read committed, found %',
            current_setting('transaction_isolation') using errcode = 'WL006';
    end if;
    update wakelog.deliveries d set available_at = wakelog.clock()
    from (select distinct unnest(p_keys) as key) k
    cross join lateral (
        select x.position from wakelog.deliveries x
        where x.agent_id = p_agent_id and x.key = k.key
        order by x.position limit 1
    ) f
    where d.agent_id = p_agent_id and d.position = f.position and d.available_at = 'infinity';
end
$$;

-- Give out the first event of each free key, p_limit at most, and put the others in line, as far as that goes.
-- given: what was given out; upto: the last position that was dealt with; done: whether all were.
create or replace function wakelog.stand_in_line(
    p_agent_id integer, p_positions bigint[], p_keys text[], p_busy text[], p_limit bigint, p_worker bigint,
    p_now timestamptz, p_lease interval, out given bigint[], out upto bigint, out done boolean
)
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    with wanted as (
        select w.position, w.key,
               w.key is null or (
                   w.key <> all (p_busy)
                   and row_number() over (partition by w.key order by w.position) = 1) as free
        from unnest(p_positions, p_keys) as w (position, key)
    ),
    counted as (
        select w.*, count(*) filter (where w.free) over (order by w.position) as nth from wanted w
    ),
    dealt as (
        select c.* from counted c where c.nth < p_limit or (c.nth = p_limit and c.free)
    ),
    placed as (
        -- After a rewind an event may still have its row: it is not handed out twice.
        insert into wakelog.deliveries (
            agent_id, position, key, worker, attempt, available_at, claimed_at, first_claimed_at)
        select p_agent_id, d.position, d.key, case when d.free then p_worker end, d.free::integer,
               case when d.free then p_now + p_lease else 'infinity' end, p_now, p_now
        from dealt d
        on conflict (agent_id, position) do nothing
        returning position, worker
    )
    select coalesce((select array_agg(p.position order by p.position) from placed p
                     where p.worker is not null), '{}'),
           (select max(d.position) from dealt d),
           (select count(*) from dealt) = cardinality(p_positions)
    into given, upto, done;
end
$$;

-- Hand out the next events of an agent that works in order: of each key the first, and none while an earlier one
-- of that key is unfinished. The others are put in line behind it, so that the cursor can go on to other keys:
-- one with a hundred thousand events holds up nobody else's.
create or replace function wakelog.claim_in_order(
    p_agent wakelog.agents, p_cursor bigint, p_worker bigint, p_limit bigint, p_now timestamptz,
    p_lease interval
) returns bigint[]
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_window constant integer := 1000;
    v_upto bigint;
    v_cursor bigint := p_cursor;
    v_seen bigint[];
    v_keys text[];
    v_dealt record;
    v_positions bigint[] := '{}'::bigint[];
begin
    -- The head is read first: what is asked afterwards may see more of the log, never less.
    select least(s.head, p_cursor + 100000) into strict v_upto from wakelog.sequencer s;
    for v_turn in 1..20 loop
        exit when v_cursor >= v_upto or cardinality(v_positions) >= p_limit;
        v_seen := array(select wakelog.wanted_positions(p_agent, v_cursor, v_upto, v_window));
        if v_seen = '{}' then
            v_cursor := v_upto;
            exit;
        end if;
        v_keys := array(
            select wakelog.order_key(p_agent.ordered_by, e)
            from unnest(v_seen) as p (position)
            join wakelog.log l on l.position = p.position
            join wakelog.events e on e.seq = l.seq
            order by l.position);
        select s.* into v_dealt from wakelog.stand_in_line(
            p_agent.id, v_seen, v_keys, wakelog.busy_keys(p_agent.id, v_keys),
            p_limit - cardinality(v_positions), p_worker, p_now, p_lease) s;
        v_positions := v_positions || v_dealt.given;
        -- A window that was not full was the last one.
        v_cursor := case when v_dealt.done and cardinality(v_seen) < v_window then v_upto else v_dealt.upto end;
    end loop;

    update wakelog.cursors c set position = v_cursor where c.agent_id = p_agent.id;
    return v_positions;
end
$$;

-- Hand up to p_limit deliveries of one agent to one worker, for the length of p_lease.
--
-- Late ones come first: retries that are due, and work whose lease ran out. They are taken with SKIP
-- LOCKED, so workers never wait for each other. Fresh ones come from the agent's cursor, in log order,
-- whose row is locked: one claim per agent at a time, each a few milliseconds.
--
-- Safe to lose in a crash, so a worker may commit it asynchronously: cursor and leases go back together,
-- and the worker ids that fence them are never given out twice.
create or replace function wakelog.claim(
    p_agent text, p_worker bigint, p_limit integer default 1, p_lease interval default '30 seconds'
) returns setof wakelog.claimed
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent wakelog.agents;
    v_cursor bigint;
    v_now timestamptz := wakelog.clock();
    v_room bigint := p_limit;
    v_late bigint[];
    v_fresh bigint[];
begin
    select a.* into v_agent from wakelog.agents a where a.id = wakelog.agent_id(p_agent);
    perform wakelog.check_worker(p_worker);
    select c.position into v_cursor from wakelog.cursors c where c.agent_id = v_agent.id for update;
    if not found or v_agent.paused_at is not null then
        return;
    end if;

    if v_agent.concurrency is not null then
        v_room := least(v_room, v_agent.concurrency - wakelog.running(v_agent.id, v_now));
    end if;
    if v_agent.rate_count is not null then
        v_room := least(v_room, wakelog.pace(v_agent, v_now));
    end if;
    if v_room > 0 then
        v_late := wakelog.claim_late(v_agent, p_worker, v_room, v_now, p_lease);
        v_room := v_room - cardinality(v_late);
    end if;
    if v_room > 0 then
        if v_agent.ordered_by is null then
            v_fresh := wakelog.claim_fresh(v_agent, v_cursor, p_worker, v_room, v_now, p_lease);
        else
            v_fresh := wakelog.claim_in_order(v_agent, v_cursor, p_worker, v_room, v_now, p_lease);
        end if;
    end if;
    if v_agent.expires is not null then
        v_late := wakelog.bury_expired(v_agent, v_late, v_now);
        v_fresh := wakelog.bury_expired(v_agent, v_fresh, v_now);
    end if;
    if v_agent.rate_count is not null then
        perform wakelog.keep_pace(v_agent, v_now, cardinality(v_late || v_fresh));
    end if;

    return query
    select d.position, d.attempt, d.stalled, d.available_at, v_agent.timeout, l.sequenced_at,
           e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
           coalesce(e.correlation_id, e.id::text), e.causation_id, e.idempotency_key, e.schema_version,
           e.occurred_at, e.recorded_at
    from unnest(v_late || v_fresh) with ordinality as p (position, ordinal)
    join wakelog.deliveries d on d.agent_id = v_agent.id and d.position = p.position
    join wakelog.log l on l.position = p.position
    join wakelog.events e on e.seq = l.seq
    order by p.ordinal;
end
$$;

-- Say that a worker may no longer change a delivery.
create or replace function wakelog.lease_lost(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer
) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'worker % no longer holds attempt % of agent "%" at position %',
        p_worker, p_attempt, p_agent, p_position
        using errcode = 'WL002', hint = 'The lease ran out or another worker took over; drop this work.';
end
$$;

-- The delivery a worker holds, locked; WL002 where it does not hold it.
create or replace function wakelog.held(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer
) returns wakelog.deliveries
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery wakelog.deliveries;
begin
    select d.* into v_delivery from wakelog.deliveries d
    where d.agent_id = wakelog.agent_id(p_agent) and d.position = p_position
      and d.worker = p_worker and d.attempt = p_attempt and d.available_at > wakelog.clock()
    for update;
    if not found then
        perform wakelog.lease_lost(p_agent, p_position, p_worker, p_attempt);
    end if;
    return v_delivery;
end
$$;

-- Finish deliveries whose work is done, and append the events they answer with; returns the positions
-- finished. One that the worker no longer holds is left out, and so are its events.
--
-- p_events as for wakelog.emit. All in the caller's transaction: effects made in it happen exactly once.
create or replace function wakelog.ack_many(
    p_agent text, p_worker bigint, p_positions bigint[], p_attempts integer[], p_events jsonb default '[]'
) returns setof bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent_id integer := wakelog.agent_id(p_agent);
    v_now timestamptz := wakelog.clock();
    v_acked bigint[];
    v_keys text[];
begin
    if exists (select from wakelog.agents a where a.id = v_agent_id and a.ordered_by is not null) then
        -- In the order in which a claim locks the first of each line (wakelog.busy_keys).
        perform from wakelog.deliveries d
        where d.agent_id = v_agent_id and d.position = any (p_positions)
        order by d.position
        for update;
    end if;
    with acked as (
        delete from wakelog.deliveries d
        using unnest(p_positions, p_attempts) as p (position, attempt)
        where d.agent_id = v_agent_id and d.position = p.position and d.attempt = p.attempt
          and d.worker = p_worker
          and (d.available_at > v_now) is true  -- so written, to stay on the primary key
        returning d.*
    ),
    kept as (
        insert into wakelog.history (
            agent_id, position, attempts, stalled, worker, started_at, finished_at, outcome, failures)
        select k.agent_id, k.position, k.attempt, k.stalled, k.worker, k.claimed_at, v_now, 'completed',
               k.failures
        from acked k
        where (select a.keeps_history from wakelog.agents a where a.id = v_agent_id)
    )
    select array_agg(k.position), array_agg(k.key) filter (where k.key is not null) into v_acked, v_keys
    from acked k;
    if v_keys is not null then
        perform wakelog.step_forward(v_agent_id, v_keys);
    end if;

    if p_events <> '[]' then
        perform wakelog.emit(p_agent, (
            select coalesce(jsonb_agg(e.event order by e.ordinal), '[]')
            from jsonb_array_elements(p_events) with ordinality as e (event, ordinal)
            where (e.event ->> 'position')::bigint = any (v_acked)));
    end if;
    return query select unnest(v_acked);
end
$$;

-- Finish one delivery; WL002 where the worker no longer holds it, so that its transaction rolls back.
-- A result becomes the event <agent>.completed.
create or replace function wakelog.ack(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer, p_result jsonb default null,
    p_events jsonb default '[]'
) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if p_result is not null then
        p_events := p_events || wakelog.completed(p_agent, p_position, p_result);
    end if;
    perform wakelog.ack_many(p_agent, p_worker, array[p_position], array[p_attempt], p_events);
    if not found then
        perform wakelog.lease_lost(p_agent, p_position, p_worker, p_attempt);
    end if;
end
$$;

-- Record a failed attempt: the delivery waits for its next try, or is given up. Returns the time of the
-- next try, null when given up.
--
-- p_retry_in overrides the agent's backoff; p_final gives up at once. WL002 where the worker no longer
-- holds the delivery. Call it in a transaction of its own, after the work's has been rolled back.
create or replace function wakelog.fail(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer, p_error text,
    p_detail text default null, p_retry_in interval default null, p_final boolean default false
) returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery wakelog.deliveries := wakelog.held(p_agent, p_position, p_worker, p_attempt);
    v_agent wakelog.agents;
    v_failed integer := v_delivery.attempt - v_delivery.stalled;
    v_now timestamptz := wakelog.clock();
    v_next timestamptz;
begin
    select a.* into strict v_agent from wakelog.agents a where a.id = v_delivery.agent_id;
    v_delivery.failures := wakelog.add_failure(
        v_delivery.failures, p_attempt, p_worker, v_delivery.claimed_at, v_now, 'failed', p_error, p_detail);

    if p_final or v_failed >= v_agent.max_attempts then
        perform wakelog.bury(v_agent, v_delivery,
                             case when p_final then 'do_not_retry' else 'max_attempts' end);
        return null;
    end if;
    v_next := v_now + coalesce(p_retry_in, wakelog.backoff(v_agent.backoff, v_failed));
    update wakelog.deliveries d
    set worker = null, available_at = v_next, failures = v_delivery.failures
    where d.agent_id = v_delivery.agent_id and d.position = p_position;
    return v_next;
end
$$;

-- Prolong the lease of one delivery, counted from now, and return its new end; WL002 where it is lost.
create or replace function wakelog.extend(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer,
    p_lease interval default '30 seconds'
) returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery wakelog.deliveries := wakelog.held(p_agent, p_position, p_worker, p_attempt);
begin
    update wakelog.deliveries d set available_at = wakelog.clock() + p_lease
    where d.agent_id = v_delivery.agent_id and d.position = p_position
    returning d.available_at into v_delivery.available_at;
    return v_delivery.available_at;
end
$$;

-- Give deliveries back untried (a worker shutting down, a handler that says "not me, not now"): they may be
-- claimed again after p_delay, and the attempt does not count. Returns how many were still held.
create or replace function wakelog.release(
    p_agent text, p_worker bigint, p_positions bigint[], p_attempts integer[],
    p_delay interval default '0'
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := wakelog.clock();
    v_count bigint;
begin
    update wakelog.deliveries d
    set worker = null, attempt = d.attempt - 1, available_at = v_now + p_delay
    from unnest(p_positions, p_attempts) as p (position, attempt)
    where d.agent_id = wakelog.agent_id(p_agent) and d.position = p.position
      and d.worker = p_worker and d.attempt = p.attempt and d.available_at > v_now;
    get diagnostics v_count = row_count;
    if v_count > 0 and p_delay <= '0' then
        perform pg_notify('wakelog', 'ring');
    end if;
    return v_count;
end
$$;

-- Remember what a step returned, and return it; or what it returned the first time, if it has finished
-- before. WL002 where the worker no longer holds the delivery.
create or replace function wakelog.record_step(
    p_agent text, p_position bigint, p_worker bigint, p_attempt integer, p_name text, p_result jsonb
) returns jsonb
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_delivery wakelog.deliveries := wakelog.held(p_agent, p_position, p_worker, p_attempt);
    v_result jsonb;
begin
    insert into wakelog.steps (agent_id, position, name, result)
    values (v_delivery.agent_id, p_position, p_name, p_result)
    on conflict (agent_id, position, name) do nothing
    returning result into v_result;
    if not found then
        select s.result into strict v_result from wakelog.steps s
        where s.agent_id = v_delivery.agent_id and s.position = p_position and s.name = p_name;
    end if;
    return v_result;
end
$$;

-- The steps of one delivery that have finished, with what they returned.
create or replace function wakelog.finished_steps(p_agent text, p_position bigint)
returns table (name text, result jsonb)
language sql stable
security definer
begin atomic
    select s.name, s.result from wakelog.steps s
    where s.agent_id = wakelog.agent_id(p_agent) and s.position = p_position;
end;

-- Give a dead letter another round of attempts; its history goes with it. Returns whether there was one. Where the
-- agent works in order, it takes its place in line.
create or replace function wakelog.retry_dead(p_agent text, p_position bigint) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_agent wakelog.agents;
    v_key text;
begin
    select a.* into v_agent from wakelog.agents a where a.id = wakelog.agent_id(p_agent);
    if v_agent.ordered_by is not null then
        perform from wakelog.cursors c where c.agent_id = v_agent.id for update;
        select wakelog.order_key(v_agent.ordered_by, e) into v_key
        from wakelog.log l join wakelog.events e on e.seq = l.seq where l.position = p_position;
    end if;
    with revived as (
        delete from wakelog.dead d
        where d.agent_id = v_agent.id and d.position = p_position
        returning d.*
    )
    insert into wakelog.deliveries (
        agent_id, position, key, worker, attempt, stalled, available_at, claimed_at, first_claimed_at,
        failures)
    select r.agent_id, r.position, v_key, null, 0, 0,
           case when v_key = any (wakelog.busy_keys(v_agent.id, array[v_key])) then 'infinity'
                else wakelog.clock() end,
           r.died_at, r.first_claimed_at, r.failures
    from revived r
    on conflict (agent_id, position) do nothing;
    if not found then
        return false;
    end if;
    perform pg_notify('wakelog', 'ring');
    return true;
end
$$;

-- Let a dead letter rest: it leaves the list and stays in the history. Returns whether there was one.
create or replace function wakelog.discard_dead(p_agent text, p_position bigint) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    with discarded as (
        delete from wakelog.dead d
        where d.agent_id = wakelog.agent_id(p_agent) and d.position = p_position
        returning d.*
    )
    insert into wakelog.history (
        agent_id, position, attempts, stalled, started_at, finished_at, outcome, failures)
    select d.agent_id, d.position, d.attempts, d.stalled, d.first_claimed_at, wakelog.clock(), 'discarded',
           d.failures
    from discarded d;
    return found;
end
$$;

-- Register a worker and return its id, which fences everything it does.
--
-- p_locked: this session holds the worker's advisory lock until it ends or stop_worker is called, so the
-- worker's death is noticed at once. Without it (a script with a connection per statement, a pooler in
-- between) only leases tell.
create or replace function wakelog.start_worker(
    p_name text, p_agents text[], p_locked boolean default true
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_id bigint := nextval('wakelog.worker_ids');
begin
    perform wakelog.commit_durably();
    if p_locked then
        perform pg_advisory_lock(wakelog.lock_space('worker'), v_id::integer);
    end if;
    insert into wakelog.worker_sessions (id, name, agents, locked, pid)
    values (v_id, p_name, p_agents, p_locked, case when p_locked then pg_backend_pid() end);
    return v_id;
end
$$;

-- Take a worker off the list. What it still holds may be claimed by others at once, and counts as stalled:
-- a worker that stops in order releases its work first.
create or replace function wakelog.stop_worker(p_worker bigint) returns void
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    -- A row that is locked is being finished at this moment; waiting for it here could be a deadlock.
    with mine as (
        select d.agent_id, d.position from wakelog.deliveries d where d.worker = p_worker
        for update skip locked
    )
    update wakelog.deliveries d set available_at = least(d.available_at, wakelog.clock())
    from mine m where d.agent_id = m.agent_id and d.position = m.position;
    if found then
        perform pg_notify('wakelog', 'ring');
    end if;
    delete from wakelog.worker_sessions w where w.id = p_worker;
    perform pg_advisory_unlock(wakelog.lock_space('worker'), l.objid::integer)
    from pg_locks l
    where l.locktype = 'advisory' and l.pid = pg_backend_pid() and l.granted
      and l.classid::integer = wakelog.lock_space('worker') and l.objid::bigint = p_worker;
end
$$;

-- A worker's sign of life: prolongs the leases of all it holds that have not run out. Returns how many;
-- WL007 where it has been found dead and must start anew.
create or replace function wakelog.heartbeat(
    p_worker bigint, p_agents text[], p_positions bigint[], p_lease interval default '30 seconds'
) returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := wakelog.clock();
    v_count bigint;
begin
    perform wakelog.check_worker(p_worker);
    update wakelog.worker_sessions w set seen_at = v_now where w.id = p_worker;

    -- A row that is locked is being finished, or taken over, at this moment.
    with mine as (
        select d.agent_id, d.position
        from unnest(p_agents, p_positions) as p (agent, position)
        join wakelog.agents a on a.name = p.agent
        join wakelog.deliveries d on d.agent_id = a.id and d.position = p.position
        where d.worker = p_worker and d.available_at > v_now
        for update of d skip locked
    )
    update wakelog.deliveries d set available_at = greatest(d.available_at, v_now + p_lease)
    from mine m where d.agent_id = m.agent_id and d.position = m.position;
    get diagnostics v_count = row_count;
    return v_count;
end
$$;

-- A worker says that it has looked, found nothing, and could take p_room more; false where it is no longer
-- registered. It must look once more after this has committed, and may then wait to be rung on its channel,
-- wakelog_worker_<id>.
create or replace function wakelog.fall_asleep(p_worker bigint, p_room integer) returns boolean
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    update wakelog.worker_sessions w set asleep = true, room = p_room, seen_at = wakelog.clock()
    where w.id = p_worker;
    return found;
end
$$;

-- A worker says that it is busy again and need not be rung.
create or replace function wakelog.wake_up(p_worker bigint) returns void
language sql volatile
security definer
begin atomic
    update wakelog.worker_sessions w set asleep = false where w.id = p_worker and w.asleep;
end;

-- Find the workers that are dead, and let their deliveries be claimed by others at once. Returns how many.
--
-- Dead is a worker whose lock can be had; one that never had a lock, when it has given no sign of life for
-- an hour and holds nothing (its leases end by themselves).
create or replace function wakelog.reap_workers() returns bigint
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_dead bigint[];
begin
    select array_agg(w.id) into v_dead from wakelog.worker_sessions w
    where w.pid is distinct from pg_backend_pid() and case
        when w.locked then pg_try_advisory_xact_lock(wakelog.lock_space('worker'), w.id::integer)
        else w.seen_at < wakelog.clock() - interval '1 hour'
             and not exists (select from wakelog.deliveries d where d.worker = w.id)
    end;
    if v_dead is null then
        return 0;
    end if;
    -- A row that is locked is being finished at this moment; waiting for it here could be a deadlock. Its
    -- worker stays for the next round, in case it is not finished after all.
    with theirs as (
        select d.agent_id, d.position from wakelog.deliveries d
        where d.worker = any (v_dead) and d.available_at > wakelog.clock()
        for update skip locked
    )
    update wakelog.deliveries d set available_at = wakelog.clock()
    from theirs t where d.agent_id = t.agent_id and d.position = t.position;
    with gone as (
        select w.id from wakelog.worker_sessions w
        where w.id = any (v_dead)
          and not exists (select from wakelog.deliveries d
                          where d.worker = w.id and d.available_at > wakelog.clock())
        order by w.id
        for update
    )
    delete from wakelog.worker_sessions w using gone g where w.id = g.id;
    return cardinality(v_dead);
end
$$;

-- The agents for which a claim may find something, and about how much (never less than 1).
create or replace function wakelog.ready_agents(p_agents text[] default null)
returns table (agent text, backlog bigint)
language sql stable
security definer
begin atomic
    select a.name, greatest(s.head - c.position, 1)
    from wakelog.agents a
    join wakelog.cursors c on c.agent_id = a.id
    cross join wakelog.sequencer s
    where (p_agents is null or a.name = any (p_agents))
      and a.paused_at is null
      and (wakelog.has_fresh(a, c.position)
           or exists (select from wakelog.deliveries d
                      where d.agent_id = a.id and d.available_at <= wakelog.clock()))
      and (a.rate_count is null or wakelog.pace(a, wakelog.clock()) > 0)
      and (a.concurrency is null or wakelog.running(a.id, wakelog.clock()) < a.concurrency);
end;

-- Wake as many sleeping workers as the waiting work needs, each on its own channel with the names of the
-- agents it is wanted for. Returns the time at which the next postponed delivery is due, if any.
--
-- Call it in a transaction of its own, after sequencing has committed: a worker that fell asleep too late to
-- be seen here looks once more by itself, and finds what was sequenced before. It is committed without waiting
-- for the disk: a ring lost in a crash costs a second.
create or replace function wakelog.ring() returns timestamptz
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_worker record;
begin
    perform set_config('synchronous_commit', 'off', true);
    for v_worker in
        with wanted as (
            select w.id, r.agent, r.backlog,
                   coalesce(sum(w.room) over (
                       partition by r.agent order by w.room desc, w.id
                       rows between unbounded preceding and 1 preceding), 0) as room_before
            from wakelog.ready_agents() r
            join wakelog.worker_sessions w on w.asleep and w.room > 0 and r.agent = any (w.agents)
        ),
        chosen as (
            select id, string_agg(agent, ' ') as agents from wanted
            where room_before < backlog group by id
        ),
        -- In the order in which reap_workers locks them too.
        locked as (
            select w.id, c.agents from wakelog.worker_sessions w join chosen c on c.id = w.id
            where w.asleep
            order by w.id
            for update of w
        )
        update wakelog.worker_sessions w set asleep = false
        from locked l
        where w.id = l.id
        returning w.id, l.agents
    loop
        -- A list too long for a notification is left out: the worker then asks for itself.
        perform pg_notify('wakelog_worker_' || v_worker.id,
                          case when octet_length(v_worker.agents) < 7500 then v_worker.agents else '' end);
    end loop;
    return (select min(d.available_at) from wakelog.deliveries d
            where d.worker is null and d.available_at > wakelog.clock() and d.available_at < 'infinity');
end
$$;

-- The doorkeeper's look: sequence, commit, and ring, where there is more in the log than p_rung, or p_slow.
-- p_rung becomes how far the log reached when workers were rung. p_found is how many events were sequenced, null
-- where another session was at it: then some may be left, and it is too early to sleep. p_due_in, after a
-- ring, is the seconds until the next postponed delivery is due.
-- A procedure, so that one round trip holds two transactions.
create or replace procedure wakelog.look(
    p_slow boolean, inout p_rung bigint, inout p_found bigint default null,
    inout p_due_in double precision default null
)
language plpgsql
as $$
declare
    v_head bigint;
begin
    p_found := wakelog.sequence();
    p_due_in := null;
    commit;
    select s.head into strict v_head from wakelog.sequencer s;
    if v_head operator(pg_catalog.<>) p_rung or p_slow then
        p_rung := v_head;
        p_due_in := extract(epoch from wakelog.ring() operator(pg_catalog.-) wakelog.clock());
    end if;
end
$$;

-- Make history's partitions from today to p_days ahead, one a day (UTC), and those of the days for which the
-- default one has collected rows, which move in. Returns how many were made. The doorkeeper does this every
-- hour.
create or replace function wakelog.make_history_partitions(p_days integer default 3) returns integer
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_today date := (wakelog.clock() at time zone 'UTC')::date;
    v_day date;
    v_name text;
    v_made integer := 0;
begin
    for v_day in
        select v_today + n from generate_series(0, least(p_days, 31)) as n
        union
        select (h.finished_at at time zone 'UTC')::date from wakelog.history_default h
        order by 1
    loop
        v_name := 'history_' || to_char(v_day, 'YYYY_MM_DD');
        continue when to_regclass('wakelog.' || v_name) is not null;
        -- A row that comes in between the moving and the attaching would forbid the attaching. Whoever reads the
        -- history for long (pg_dump) is not to be waited for: the default partition serves until next time.
        begin
            lock table wakelog.history_default in access exclusive mode nowait;
        exception
            when lock_not_available then return v_made;
        end;
        execute format('create table wakelog.%I (like wakelog.history including defaults)', v_name);
        execute format(
            'with moved as (delete from wakelog.history_default where finished_at >= %L and finished_at < %L returning *)
             insert into wakelog.%I select * from moved',
            v_day::timestamp at time zone 'UTC', (v_day + 1)::timestamp at time zone 'UTC', v_name);
        execute format('alter table wakelog.history attach partition wakelog.%I for values from (%L) to (%L)',
            v_name, v_day::timestamp at time zone 'UTC', (v_day + 1)::timestamp at time zone 'UTC');
        v_made := v_made + 1;
    end loop;
    return v_made;
end
$$;

-- Drop the history of whole days (UTC) that ended before p_before: tables go, no row is deleted, and nothing
-- that is unread or unfinished is touched, for only finished work is in the history. The steps of work finished
-- before then go too, which are rows to delete. Returns the days dropped.
create or replace function wakelog.drop_history(p_before timestamptz) returns setof date
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_name text;
    v_day date;
begin
    for v_name, v_day in
        select c.relname, to_date(right(c.relname, 10), 'YYYY_MM_DD')
        from pg_inherits i join pg_class c on c.oid = i.inhrelid
        where i.inhparent = 'wakelog.history'::regclass
          and c.relname ~ '^history_[0-9]{4}_[0-9]{2}_[0-9]{2}$'
        order by c.relname
    loop
        continue when (v_day + 1)::timestamp at time zone 'UTC' > p_before;
        execute format('drop table wakelog.%I', v_name);
        return next v_day;
    end loop;
    -- What finished deliveries remember of their steps goes with their history.
    delete from wakelog.steps s
    where s.finished_at < p_before
      and not exists (select from wakelog.deliveries d
                      where d.agent_id = s.agent_id and d.position = s.position);
end
$$;

-- How many events an agent wants and has not claimed: exact up to 10,000, which stands for "that or more".
-- For an agent that wants everything and says nothing it is exact always.
create or replace function wakelog.behind(p_agent wakelog.agents, p_cursor bigint, p_head bigint) returns bigint
language sql stable
security definer
begin atomic
    select case
        when p_agent.type_regex is null and p_agent.source_regex is null and p_agent.metadata is null
             and p_agent.payload_path is null and wakelog.own_outcomes(p_agent.name) = '{}'
            then p_head - p_cursor
        when not wakelog.has_fresh(p_agent, p_cursor) then 0
        else (select count(*) from wakelog.wanted_positions(
            p_agent, p_cursor, least(p_head, p_cursor + 100000), 10000))
    end;
end;

-- When the oldest event an agent has not finished became part of the log; null where it is up to date.
create or replace function wakelog.oldest_waiting(p_agent wakelog.agents, p_cursor bigint, p_head bigint)
returns timestamptz
language sql stable
security definer
begin atomic
    select min(l.sequenced_at) from wakelog.log l
    where l.position in (
        (select w.position from wakelog.wanted_positions(
             p_agent, p_cursor, least(p_head, p_cursor + 100000), 1) as w (position)
         where wakelog.has_fresh(p_agent, p_cursor))
        union all
        (select min(d.position) from wakelog.deliveries d where d.agent_id = p_agent.id));
end;

-- Whether a worker is known to live: it holds its lock, or has given a sign of life within a minute.
create or replace function wakelog.worker_alive(p_worker wakelog.worker_sessions) returns boolean
language sql stable
security definer
begin atomic
    select case
        when p_worker.locked then exists (
            select from pg_locks l
            where l.locktype = 'advisory' and l.granted
              and l.database = (select d.oid from pg_database d where d.datname = current_database())
              and l.classid::integer = wakelog.lock_space('worker') and l.objid::bigint = p_worker.id)
        else p_worker.seen_at > wakelog.clock() - interval '1 minute'
    end;
end;

-- What happens at an insert into wakelog.events, in the inserting transaction. The row triggers cost
-- their condition only, unless it holds.
create or replace trigger events_own_transaction before insert on wakelog.events
for each row when (new.xid <> pg_current_xact_id())
execute function wakelog.own_transaction();

create or replace trigger events_next_version before insert on wakelog.events
for each row when (new.version is null and new.stream is not null)
execute function wakelog.next_version();

create or replace trigger events_refuse_reserved_key before insert on wakelog.events
for each row when (starts_with(new.idempotency_key, 'wakelog:'))
execute function wakelog.refuse_reserved_key();

-- The beacon (wakelog.lock_space) is tried here, in the condition, so that the function is called only when somebody
-- sleeps: called for every insert, it took 10 % of the throughput.
create or replace trigger events_wake after insert on wakelog.events
for each statement when (not pg_try_advisory_xact_lock_shared(2002873189, 0))
execute function wakelog.wake();

create or replace trigger events_refuse_change before update or delete on wakelog.events
for each row execute function wakelog.refuse_change();

create or replace trigger events_refuse_truncate before truncate on wakelog.events
for each statement execute function wakelog.refuse_change();

-- The log: every event in position order, with all its columns.
create or replace view wakelog.log_events as
select l.position, e.id, e.type, e.source, e.stream, e.version, e.payload, e.metadata,
       coalesce(e.correlation_id, e.id::text) as correlation_id, e.causation_id, e.idempotency_key,
       e.schema_version, e.occurred_at, e.recorded_at, l.sequenced_at, e.seq, e.xid
from wakelog.log l
join wakelog.events e on e.seq = l.seq
order by l.position;

-- How each agent stands. behind counts the events it wants and has not claimed (exact up to 10,000), those that
-- stand in line behind another of their key among them;
-- oldest_age is how long the oldest unfinished one has been in the log.
create or replace view wakelog.lag as
select a.name as agent,
       c.position as cursor,
       wakelog.behind(a, c.position, s.head) + coalesce(d.in_line, 0) as behind,
       wakelog.clock() - wakelog.oldest_waiting(a, c.position, s.head) as oldest_age,
       coalesce(d.in_flight, 0) as in_flight,
       coalesce(d.retrying, 0) as retrying,
       (select count(*) from wakelog.dead x where x.agent_id = a.id) as dead,
       coalesce(d.stalled, 0) as stalled,
       a.paused_at
from wakelog.agents a
join wakelog.cursors c on c.agent_id = a.id
cross join wakelog.sequencer s
left join (
    select agent_id,
           count(*) filter (where worker is not null) as in_flight,
           count(*) filter (where worker is null and available_at < 'infinity') as retrying,
           count(*) filter (where available_at = 'infinity') as in_line,
           sum(stalled) as stalled
    from wakelog.deliveries group by agent_id
) d on d.agent_id = a.id
order by a.name;

-- Deliveries that are with a worker or wait for their next try.
create or replace view wakelog.in_flight as
select a.name as agent,
       d.position,
       e.id as event_id,
       e.type,
       coalesce(e.correlation_id, e.id::text) as correlation_id,
       case when d.available_at = 'infinity' then 'in_line'
            when d.worker is null then 'waiting'
            when d.available_at <= wakelog.clock() then 'lease_over'
            else 'running' end as state,
       d.attempt,
       d.stalled,
       d.worker,
       w.name as worker_name,
       d.claimed_at,
       wakelog.clock() - d.claimed_at as since_claim,
       nullif(d.available_at, 'infinity') as available_at,
       d.failures -> -1 ->> 'error' as last_error
from wakelog.deliveries d
join wakelog.agents a on a.id = d.agent_id
join wakelog.log l on l.position = d.position
join wakelog.events e on e.seq = l.seq
left join wakelog.worker_sessions w on w.id = d.worker
order by a.name, d.position;

-- Deliveries given up, with the event and the record of every attempt.
create or replace view wakelog.dead_letters as
select a.name as agent,
       d.position,
       e.id as event_id,
       e.type,
       e.source,
       e.stream,
       coalesce(e.correlation_id, e.id::text) as correlation_id,
       d.reason,
       d.error,
       d.attempts,
       d.stalled,
       d.failures,
       d.first_claimed_at,
       d.died_at,
       e.payload
from wakelog.dead d
join wakelog.agents a on a.id = d.agent_id
join wakelog.log l on l.position = d.position
join wakelog.events e on e.seq = l.seq
order by d.died_at, a.name, d.position;

-- Who works, whether it lives, and how much it has in hand.
create or replace view wakelog.workers as
select w.id as worker,
       w.name,
       w.agents,
       wakelog.worker_alive(w) as alive,
       w.asleep,
       (select count(*) from wakelog.deliveries d where d.worker = w.id) as in_flight,
       w.started_at,
       w.seen_at,
       w.pid as backend_pid
from wakelog.worker_sessions w
order by w.id;

-- Everything of one correlation, oldest first: its events, and what each agent did about them.
-- select * from wakelog.timeline where correlation_id = '...'
create or replace view wakelog.timeline as
with event as not materialized (
    select coalesce(e.correlation_id, e.id::text) as correlation_id, l.position, e.id, e.type, e.source,
           e.causation_id, e.payload, l.sequenced_at
    from wakelog.events e join wakelog.log l on l.seq = e.seq
)
select e.correlation_id, e.sequenced_at as at, 'event' as what, e.type as name, null as outcome,
       null::integer as attempts, null::interval as took, null::bigint as worker, e.position,
       e.id as event_id, e.causation_id, e.payload as detail
from event e
union all
select e.correlation_id, h.finished_at, 'delivery', a.name, h.outcome, h.attempts,
       h.finished_at - h.started_at, h.worker, e.position, e.id, e.causation_id, h.failures
from event e join wakelog.history h on h.position = e.position join wakelog.agents a on a.id = h.agent_id
union all
select e.correlation_id, d.claimed_at, 'delivery', a.name,
       case when d.worker is null then 'waiting' else 'running' end, d.attempt,
       wakelog.clock() - d.claimed_at, d.worker, e.position, e.id, e.causation_id, d.failures
from event e join wakelog.deliveries d on d.position = e.position join wakelog.agents a on a.id = d.agent_id
union all
select e.correlation_id, d.died_at, 'delivery', a.name, 'dead', d.attempts, d.died_at - d.first_claimed_at,
       null, e.position, e.id, e.causation_id, d.failures
from event e join wakelog.dead d on d.position = e.position join wakelog.agents a on a.id = d.agent_id
order by 2, 9, 3 desc;

-- What may hold things up: how far the log reaches, who keeps the doors, and the oldest open transactions.
-- An open transaction delays no one's events but its own; it does keep vacuum from cleaning up.
create or replace view wakelog.horizon as
select s.head,
       s.sequenced_at,
       (select l.pid from pg_catalog.pg_locks l
        where l.locktype = 'advisory' and l.granted
          and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
          and l.classid::integer = wakelog.lock_space('doorkeeper')) as doorkeeper_pid,
       t.pid as oldest_transaction_pid,
       clock_timestamp() - t.xact_start as oldest_transaction_age,
       t.state as oldest_transaction_state,
       t.application_name as oldest_transaction_application,
       (select max(clock_timestamp() - a.xact_start)
        from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
        where l.locktype = 'advisory' and l.mode = 'ShareLock' and l.granted
          and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
          and l.classid::integer = wakelog.lock_space('beacon')) as oldest_append_age
from wakelog.sequencer s
left join lateral (
    select a.* from pg_catalog.pg_stat_activity a
    where a.datname = current_database() and a.xact_start is not null and a.pid <> pg_backend_pid()
      and a.backend_type = 'client backend'
    order by a.xact_start limit 1
) t on true;

-- What each role may do. wakelog_writer: insert events and nothing else, read included (seq, xid and
-- recorded_at are not for it to say). wakelog_reader: look at everything. wakelog_worker: claim and finish
-- work, append, and look.
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

    if exists (select from pg_catalog.pg_roles where rolname = 'wakelog_writer') then
        grant usage on schema wakelog to wakelog_writer;
        grant insert (id, type, source, stream, version, payload, metadata, correlation_id, causation_id,
                      idempotency_key, schema_version, occurred_at)
            on wakelog.events to wakelog_writer;
        grant execute on function
            wakelog.uuid7(),
            wakelog.append(text, jsonb, text, bigint, text, text, jsonb, text, uuid, integer, timestamptz, uuid),
            wakelog.append_many(jsonb)
            to wakelog_writer;
    end if;

    if exists (select from pg_catalog.pg_roles where rolname = 'wakelog_reader') then
        grant usage on schema wakelog to wakelog_reader;
        grant select on all tables in schema wakelog to wakelog_reader;
        grant execute on function
            wakelog.clock(), wakelog.lock_space(text), wakelog.without_position(integer), wakelog.position_at(timestamptz),
            wakelog.pattern_regex(text, text), wakelog.patterns_regex(text[], text),
            wakelog.behind(wakelog.agents, bigint, bigint),
            wakelog.oldest_waiting(wakelog.agents, bigint, bigint),
            wakelog.worker_alive(wakelog.worker_sessions),
            wakelog.ready_agents(text[])
            to wakelog_reader;
    end if;

    if exists (select from pg_catalog.pg_roles where rolname = 'wakelog_worker') then
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
            wakelog.register_agent(text, jsonb),
            wakelog.start_worker(text, text[], boolean), wakelog.stop_worker(bigint),
            wakelog.fall_asleep(bigint, integer), wakelog.wake_up(bigint),
            wakelog.heartbeat(bigint, text[], bigint[], interval),
            wakelog.claim(text, bigint, integer, interval),
            wakelog.ack(text, bigint, bigint, integer, jsonb, jsonb),
            wakelog.ack_many(text, bigint, bigint[], integer[], jsonb),
            wakelog.fail(text, bigint, bigint, integer, text, text, interval, boolean),
            wakelog.extend(text, bigint, bigint, integer, interval),
            wakelog.release(text, bigint, bigint[], integer[], interval),
            wakelog.record_step(text, bigint, bigint, integer, text, jsonb),
            wakelog.finished_steps(text, bigint),
            wakelog.sequence(), wakelog.is_restored(), wakelog.rebase(), wakelog.ring(), wakelog.reap_workers(),
            wakelog.make_history_partitions(integer),
            wakelog.pause_agent(text), wakelog.resume_agent(text),
            wakelog.rewind_agent(text, bigint, boolean), wakelog.remove_agent(text),
            wakelog.retry_dead(text, bigint), wakelog.discard_dead(text, bigint)
            to wakelog_worker;
        grant execute on procedure wakelog.look(boolean, bigint, bigint, double precision) to wakelog_worker;
    end if;
end
$$;

comment on schema wakelog is 'Wakelog 0.1.0, functions 492a53e41f2f478b';
