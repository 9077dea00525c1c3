"""What `wakelog doctor` looks at, one function a check; none of them changes anything."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, LiteralString

from wakelog_cli.database import rows, value
from wakelog_cli.moments import in_words
from wakelog_cli.output import counted, shortened

if TYPE_CHECKING:
    from psycopg import Connection

# Seconds that an event may be without a position while somebody keeps the doors.
_PATIENCE = 2.0

# How much later than it should events may be sealed.
_SEALED_WITHIN = timedelta(minutes=1)

# At most so many are looked at again.
_UNSEQUENCED: LiteralString = """
    select array_agg(seq) from wakelog.without_position(10000) as u (seq)
"""

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """What a check found, and what to do about it ("" where all is well)."""

    check: str
    state: State
    found: str
    do: str = ""


Check = Callable[["Connection[Any]"], Iterator[Finding]]


def server(connection: "Connection[Any]") -> Iterator[Finding]:
    """The server, and whether it is one that takes writes."""
    version = value(connection, "show server_version")
    if value(connection, "select pg_is_in_recovery()"):
        yield Finding(
            "server",
            "fail",
            f"PostgreSQL {version}, a standby: it takes no appends and hands out no positions",
            "give the primary's URL: wakelog doctor --database URL",
        )
    else:
        yield Finding("server", "ok", f"PostgreSQL {version}")


def schema(connection: "Connection[Any]") -> Iterator[Finding]:
    """Whether the schema is the one this code expects."""
    from wakelog.postgres.roles import roles_status
    from wakelog.postgres.schema import schema_status

    found = schema_status(connection)
    match found.state:
        case "current" if idle := roles_status(connection).without_rights:
            yield Finding(
                "schema",
                "warn",
                f"current ({found.current}), but {', '.join(idle)} came later and may do nothing",
                "wakelog db upgrade",
            )
        case "current":
            yield Finding("schema", "ok", f"current ({found.current})")
        case "absent":
            yield Finding("schema", "fail", "there is none in this database", "wakelog db upgrade")
        case _ if found.current == found.head:
            yield Finding(
                "schema",
                "warn",
                f"current ({found.current}), with the functions of another build (Wakelog {found.installed_by})",
                "while a deployment lasts, nothing; else, by the newer one: wakelog db upgrade",
            )
        case "old":
            yield Finding(
                "schema", "fail", f"older than this Wakelog ({found.current})", "wakelog db upgrade"
            )
        case "newer":
            yield Finding(
                "schema",
                "fail",
                f"newer than this Wakelog ({found.current})",
                f"install Wakelog {found.installed_by or ''} or later here, then: wakelog db status",
            )


def listening(connection: "Connection[Any]") -> Iterator[Finding]:
    """Whether notifications arrive, and whether a session stays ours."""
    from wakelog.postgres.listen import probe_listen

    if value(connection, "select pg_is_in_recovery()"):
        return  # nobody listens on a standby, which `server` has found fault with
    probe = probe_listen(connection)
    if probe.works:
        yield Finding("listen", "ok", "notifications arrive")
        return
    if probe.pooled:
        yield Finding(
            "listen",
            "warn",
            "a transaction-mode pooler is in between: workers poll every 0.2 s, and a dead one is noticed only "
            "when its lease runs out",
            "give workers a direct connection, or a pooler in session mode",
        )
    else:
        yield Finding(
            "listen", "warn", probe.detail, "workers poll every 0.2 s meanwhile; look at what lies in between"
        )


def doorkeeper(connection: "Connection[Any]") -> Iterator[Finding]:
    """Whether somebody sequences and wakes, and whether it keeps up."""
    late = _left_unsequenced(connection)
    (horizon,) = rows(connection, "select doorkeeper_pid, sequencer_pid, sequencer_age from wakelog.horizon")
    workers: int = value(connection, "select count(*) from wakelog.workers where alive")
    if horizon["doorkeeper_pid"] is not None:
        yield Finding("doorkeeper", "ok", f"in office, backend {horizon['doorkeeper_pid']}")
    elif workers:
        yield Finding(
            "doorkeeper",
            "fail",
            f"there is none, though {counted(workers, 'worker')} live: appends are found late, by polling",
            "see what the workers say, and restart them: wakelog worker module:app",
        )
    else:
        yield Finding(
            "doorkeeper",
            "warn",
            "there is none, because nothing runs",
            "wakelog worker module:app (or: wakelog up)",
        )
    if not late:
        yield Finding("sequencer", "ok", "every event has its position")
    elif horizon["sequencer_pid"] not in (None, horizon["doorkeeper_pid"]):
        # A transaction that registers an agent, and has not ended.
        yield Finding(
            "sequencer",
            "fail",
            f"{counted(late, 'event')} without a position: backend {horizon['sequencer_pid']} has held the sequencer's "
            f"lock for {in_words(horizon['sequencer_age'] or timedelta(0))}",
            f"end its transaction: select pg_terminate_backend({horizon['sequencer_pid']})",
        )
    elif horizon["doorkeeper_pid"] is not None:
        yield Finding(
            "sequencer",
            "fail",
            f"{counted(late, 'event')} without a position for more than {_PATIENCE:g} s",
            "see what the doorkeeper waits for: select * from wakelog.horizon",
        )
    else:
        yield Finding(
            "sequencer",
            "warn",
            f"{counted(late, 'event')} without a position, and nobody is there to give it to them",
            "wakelog worker module:app (or: wakelog up)",
        )


def _left_unsequenced(connection: "Connection[Any]") -> int:
    """How many events are committed now and still have no position a little later."""
    waiting: list[int] | None = value(connection, _UNSEQUENCED)
    if not waiting:
        return 0
    time.sleep(_PATIENCE)
    return value(
        connection,
        "select count(*) from unnest(%(seqs)s::bigint[]) w (seq) where not exists"
        " (select from wakelog.log l where l.seq = w.seq)",
        {"seqs": waiting},
    )


def cluster(connection: "Connection[Any]") -> Iterator[Finding]:
    """Whether the log was sequenced here, and transaction ids go forward."""
    moved = value(
        connection,
        """select s.system_identifier <> (select c.system_identifier from pg_control_system() c)
                  or pg_snapshot_xmax(pg_current_snapshot()) < pg_snapshot_xmax(s.snapshot)
           from wakelog.sequencer s""",
    )
    if moved:
        yield Finding(
            "cluster",
            "fail",
            "the log was sequenced in another cluster, or transaction ids went back (restored from a dump?)",
            "wakelog db rebase",
        )


def transactions(connection: "Connection[Any]") -> Iterator[Finding]:
    """Transactions that stay open: they delay only their own events, and keep vacuum from its work."""
    found = rows(
        connection,
        """select pid, application_name, state, clock_timestamp() - xact_start as age
           from pg_stat_activity
           where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()
             and backend_type = 'client backend'
           order by xact_start limit 1""",
    )
    age: timedelta = found[0]["age"] if found else timedelta(0)
    if age < timedelta(minutes=5):
        yield Finding(
            "transactions",
            "ok",
            f"the oldest open one began {in_words(age)} ago" if found else "none is open",
        )
        return
    oldest = found[0]
    idle = oldest["state"].startswith("idle in transaction")
    limit = value(connection, "show idle_in_transaction_session_timeout")
    yield Finding(
        "transactions",
        "warn",
        f"backend {oldest['pid']} ({oldest['application_name'] or 'no name'}) has one open for {in_words(age)}, "
        f"{oldest['state']}: vacuum cannot clean up meanwhile",
        f"end it: select pg_terminate_backend({oldest['pid']})"
        + ("; and set idle_in_transaction_session_timeout = '5min'" if idle and limit == "0" else ""),
    )


def workers(connection: "Connection[Any]") -> Iterator[Finding]:
    """Whether those registered live."""
    found = rows(connection, "select worker, name, alive, in_flight from wakelog.workers")
    dead = [w for w in found if not w["alive"]]
    if dead:
        held = sum(w["in_flight"] for w in dead)
        names = ", ".join(f"{w['name']} ({w['worker']})" for w in dead[:5])
        yield Finding(
            "workers",
            "warn",
            f"{len(dead)} of {len(found)} registered are dead, with {held} deliveries in hand: {names}",
            "any living worker takes over within a second or two: wakelog worker module:app",
        )
    else:
        yield Finding("workers", "ok", f"{len(found)} alive" if found else "none is running")


def agents(connection: "Connection[Any]") -> Iterator[Finding]:
    """Agents with dead letters, with work and nobody to do it, or stuck."""
    found = rows(
        connection,
        """select l.*, exists (select from wakelog.workers w where w.alive and l.agent = any (w.agents)) as served
           from wakelog.lag l""",
    )
    well = True
    for agent in found:
        name = agent["agent"]
        if agent["dead"]:
            well = False
            yield Finding(
                f"agent {name}",
                "warn",
                counted(agent["dead"], "dead letter"),
                f"wakelog dead list --agent {name}",
            )
        waiting = agent["behind"] + agent["retrying"]
        if waiting and agent["paused_at"] is not None:
            well = False
            yield Finding(
                f"agent {name}",
                "warn",
                f"paused, with {counted(waiting, 'event')} waiting",
                f"wakelog agents resume {name}",
            )
        elif waiting and not agent["served"]:
            well = False
            yield Finding(
                f"agent {name}",
                "warn",
                f"{counted(waiting, 'event')} waiting, and no worker serves it",
                f"wakelog worker module:app, or if it is gone for good: wakelog agents remove {name}",
            )
    if well:
        yield Finding("agents", "ok", f"{len(found)}, all well" if found else "there are none yet")


def projections(connection: "Connection[Any]") -> Iterator[Finding]:
    """Projections that have stopped, or do not move though there is something to fold."""
    found = rows(
        connection,
        """select s.*, wakelog.clock() - coalesce(s.moved_at, s.began_at) > interval '1 minute' as still
           from wakelog.projection_status s where s.state <> 'retired'""",
    )
    well = True
    for one in found:
        name, rebuilt = one["projection"], one["mode"] == "inline" and one["state"] == "serving"
        what = do = ""
        if one["error"] is not None:
            at = f"position {one['failed_position']} ({one['failed_type']})"
            what = f"stopped at {at}: {shortened(one['error'], 200)}"
            do = f"mend it, then: wakelog projection {'rebuild' if rebuilt else 'resume'} {name}"
        elif one["paused_at"] is not None and one["behind"]:
            what = f"paused, {counted(one['behind'], 'position')} behind"
            do = f"wakelog projection resume {name}"
        elif one["behind"] and one["attended"] and one["runner_pid"] is None:
            what = f"a rebuild was interrupted at position {one['position']:,}"
            do = f"wakelog projection rebuild {name}"
        elif one["behind"] and one["runner_pid"] is None:
            what = f"{counted(one['behind'], 'position')} behind, and nobody folds it"
            do = f"wakelog worker module:app, or if it is gone for good: wakelog projection drop {name}"
        elif one["behind"] and one["still"]:
            what = f"{counted(one['behind'], 'position')} behind, and has not moved for a minute"
            do = f'see what it is at: the backend "wakelog projection {name}" in pg_stat_activity'
        if what:
            well = False
            yield Finding(f"projection {name}", "warn" if one["error"] is None else "fail", what, do)
        if one["skipped"]:
            well = False
            yield Finding(
                f"projection {name}", "warn", f"{counted(one['skipped'], 'event')} skipped",
                f"wakelog projection show {name}",
            )  # fmt: skip
    if well:
        yield Finding("projections", "ok", f"{len(found)}, all well" if found else "there are none yet")


def unmatched(connection: "Connection[Any]") -> Iterator[Finding]:
    """Types that no agent wants: often a word misspelt, on one side or the other."""
    types: list[str] = value(
        connection,
        "select coalesce(array_agg(type order by last_position desc), '{}') from wakelog.unmatched",
    )
    if types and value(connection, "select exists (select from wakelog.agents)"):
        shown = ", ".join(types[:5]) + (", ..." if len(types) > 5 else "")
        yield Finding(
            "types",
            "warn",
            f"no agent wants {shown} ({counted(len(types), 'type')})",
            "if one should: mend its on=, or the producer's type; see: select * from wakelog.unmatched",
        )
    else:
        yield Finding(
            "types", "ok", "every one is wanted by some agent" if not types else "there are no agents yet"
        )


def seals(connection: "Connection[Any]") -> Iterator[Finding]:
    """Whether the log is sealed as it should be; what is not sealed can be changed unseen."""
    (found,) = rows(
        connection,
        """select g.enabled, g.every, s.head - coalesce(l.upto, 0) as unsealed,
                  wakelog.clock() - (select p.sequenced_at from wakelog.log p
                                     where p.position > coalesce(l.upto, 0) order by p.position limit 1) as age
           from wakelog.sealing g cross join wakelog.sequencer s
           cross join (select max(to_position) as upto from wakelog.seals) l""",
    )
    unsealed = counted(found["unsealed"], "event")
    if not found["enabled"]:
        yield Finding("seals", "ok", f"sealing is off, {unsealed} not sealed")
    elif found["age"] is not None and found["age"] > 10 * found["every"] + _SEALED_WITHIN:
        yield Finding(
            "seals",
            "warn",
            f"{unsealed} not sealed for {in_words(found['age'])}, expected every {in_words(found['every'])}",
            "start a worker, whose doorkeeper seals; or: wakelog seal now",
        )
    else:
        yield Finding("seals", "ok", f"{unsealed} not sealed yet")


def settings(connection: "Connection[Any]") -> Iterator[Finding]:
    """Settings that lose events or stop the cleaning up."""
    now = {
        row["name"]: row["setting"]
        for row in rows(
            connection,
            """select name, setting from pg_settings
               where name in ('fsync', 'full_page_writes', 'synchronous_commit', 'autovacuum', 'track_counts')""",
        )
    }
    well = True
    for name, state, found, do in _SETTINGS:
        if now.get(name) == "off":
            well = False
            yield Finding(f"setting {name}", state, found, do)
    if well:
        yield Finding("settings", "ok", "nothing that loses events or stops cleaning up")


_SETTINGS: tuple[tuple[str, State, str, str], ...] = (
    ("fsync", "fail", "off: a power cut may destroy the log", "alter system set fsync = on"),
    (
        "full_page_writes",
        "fail",
        "off: a power cut may destroy the log",
        "alter system set full_page_writes = on",
    ),
    (
        "synchronous_commit",
        "warn",
        "off: a crash loses the last events that were said to be committed",
        "alter system set synchronous_commit = on",
    ),
    ("autovacuum", "fail", "off: the tables grow and claims slow down", "alter system set autovacuum = on"),
    ("track_counts", "fail", "off: autovacuum does nothing without it", "alter system set track_counts = on"),
)


def connections(connection: "Connection[Any]") -> Iterator[Finding]:
    """Whether there is room for more."""
    (found,) = rows(
        connection,
        """select count(*) as used,
                  current_setting('max_connections')::int
                  - current_setting('superuser_reserved_connections')::int as room
           from pg_stat_activity where backend_type = 'client backend'""",
    )
    used, room = found["used"], found["room"]
    state: State = "warn" if used > 0.8 * room else "ok"
    yield Finding(
        "connections",
        state,
        f"{used} of {room} in use",
        "fewer worker processes, or: alter system set max_connections (and restart)"
        if state == "warn"
        else "",
    )


def notifications(connection: "Connection[Any]") -> Iterator[Finding]:
    """A notification queue that fills up means a listener that never reads; full, it would refuse commits."""
    usage: float = value(connection, "select pg_notification_queue_usage()")
    if usage > 0.1:
        yield Finding(
            "notifications",
            "fail" if usage > 0.5 else "warn",
            f"the queue is {usage:.0%} full: some session listens and stays in a transaction",
            "end the oldest open transaction: select * from wakelog.horizon",
        )
    else:
        yield Finding("notifications", "ok", f"the queue is {usage:.0%} full")


BEFORE_THE_SCHEMA: tuple[Check, ...] = (server, settings, connections, notifications, transactions, listening)
WITH_THE_SCHEMA: tuple[Check, ...] = (cluster, doorkeeper, workers, agents, projections, unmatched, seals)
