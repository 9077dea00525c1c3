#!/usr/bin/env bash
# A worker in bash: nothing but psql and the SQL functions every worker calls.
#
#   DATABASE_URL=postgresql://... examples/worker.sh AGENT TYPES COMMAND [ARGUMENT...]
#   DATABASE_URL=postgresql://... examples/worker.sh word_count text.written wc -w
#
# For each event whose type matches TYPES the command runs once, with the payload on its standard input and
# EVENT_ID, EVENT_TYPE and ATTEMPT in its environment. Exit code 0: what it printed becomes the event
# AGENT.completed, {"output": "..."}. Any other: the attempt failed, with the last it said on standard error, and is
# tried again after a while. ONCE=1 ends when the queue is empty; LEASE is in seconds (30).
set -euo pipefail

if (($# < 3)) || [[ -z ${DATABASE_URL:-} ]]; then
    echo "Expected DATABASE_URL in the environment and: $0 AGENT TYPES COMMAND [ARGUMENT...]" >&2
    exit 2
fi
agent=$1 types=$2
shift 2
lease=${LEASE:-30}
scratch=$(mktemp -d)

# Run the SQL on standard input; values go in as psql variables, :'name', never as text of the statement.
sql() {
    psql --no-psqlrc --quiet --tuples-only --no-align --field-separator=$'\t' --set=ON_ERROR_STOP=1 \
        --set=agent="$agent" --set=types="$types" --set=lease="$lease seconds" --set=name="bash:$$" \
        --set=worker="${worker:-}" --set=position="${position:-}" --set=attempt="${attempt:-}" \
        --set=output="$scratch/output" --set=errors="$scratch/errors" "${DATABASE_URL/+psycopg/}"
}

# A start of "beginning": what was appended before the first run is wanted too.
sql >"$scratch/registered" <<'SQL'
select wakelog.register_agent(:'agent', jsonb_build_object(
    'types', array[:'types'], 'start', 'beginning', 'max_attempts', 3,
    'backoff', '{"kind": "fixed", "delay": 1}'::jsonb));
SQL

# Not locked: each statement has a connection of its own, so only the lease tells that this worker died.
start_worker() { sql <<<"select wakelog.start_worker(:'name', array[:'agent'], false)"; }
worker=$(start_worker)

# Take one event; nothing when there is none. Whoever is awake keeps the log in order, so does this.
claim() {
    sql <<'SQL' | tail -n 1
select from wakelog.sequence();
select from wakelog.heartbeat(:'worker', '{}', '{}');
select position, attempt, id, type, payload from wakelog.claim(:'agent', :'worker', 1, :'lease');
SQL
}

extend() { sql <<<"select from wakelog.extend(:'agent', :'position', :'worker', :'attempt', :'lease')"; }

ack() {
    sql <<'SQL'
\set result `cat "$OUTPUT"`
select from wakelog.ack(:'agent', :'position', :'worker', :'attempt', jsonb_build_object('output', :'result'::text));
SQL
}

fail() {
    sql <<'SQL'
\set error `iconv -c -f UTF-8 -t UTF-8 "$ERRORS" | tr -d '\000'`
select from wakelog.fail(:'agent', :'position', :'worker', :'attempt', :'error');
SQL
}

# Give back whatever is in hand. Told to stop in the moment of a claim, this worker does not know yet what that is.
release() {
    sql <<'SQL'
select from (select array_agg(position) as positions, array_agg(attempt) as attempts
             from wakelog.in_flight where agent = :'agent' and worker = :'worker') held
cross join lateral wakelog.release(:'agent', :'worker', held.positions, held.attempts);
SQL
}

leave() {
    if [[ -n ${job:-} ]]; then kill "$job" 2>/dev/null || true; fi
    release || true
    sql <<<"select from wakelog.stop_worker(:'worker')" || true
    rm -rf "$scratch"
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export OUTPUT=$scratch/output ERRORS=$scratch/errors

# Run the command for the event in hand, and hold on to the lease for as long as it takes.
work() {
    EVENT_ID=$id EVENT_TYPE=$type ATTEMPT=$attempt "$@" <<<"$payload" >"$OUTPUT" 2>"$ERRORS" &
    job=$!
    local extend_at=$((SECONDS + lease / 3 + 1)) status=0
    while kill -0 "$job" 2>/dev/null; do
        sleep 0.05
        if ((SECONDS >= extend_at)); then
            extend || kill "$job" # the lease is lost: somebody else has the event now
            extend_at=$((SECONDS + lease / 3 + 1))
        fi
    done
    wait "$job" || status=$?
    job=
    return "$status"
}

while true; do
    if ! claimed=$(claim); then
        # The database was away, or this worker was away for so long that it was taken off the list.
        if [[ -n ${ONCE:-} ]]; then exit 1; fi
        sleep 1
        worker=$(start_worker) || true
        continue
    fi
    IFS=$'\t' read -r position attempt id type payload <<<"$claimed"
    if [[ -z $position ]]; then
        if [[ -n ${ONCE:-} ]] && [[ $(sql <<<"select count(*) from wakelog.in_flight where agent = :'agent'") == 0 ]]; then
            exit 0
        fi
        sleep 1
        continue
    fi
    code=0
    work "$@" || code=$?
    if ((code == 0)) && ack; then
        echo "$agent: $type at position $position, done"
    else
        ((code)) && echo "exit code $code" >>"$ERRORS" || echo "the output could not be recorded" >>"$ERRORS"
        if fail >"$scratch/next"; then
            echo "$agent: $type at position $position, failed: $(tail -n 2 "$ERRORS" | tr '\n' ' ')"
        else
            echo "$agent: $type at position $position, not ours any more" >&2
        fi
    fi
    position=
done
