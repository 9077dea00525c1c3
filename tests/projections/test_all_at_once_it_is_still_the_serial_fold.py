"""Rebuilds, looks at the past, a version raise and live traffic at once, with processes killed: still a serial fold.

A producer appends, holding transactions open and rolling some back. Workers with the old code and workers with the new
one run beside each other; `wakelog projection rebuild` of either version goes on; `wakelog projection show --at` and
`--position` look back. A random schedule kills all of them, and in the long run the server crashes. What remains is
compared with a fold in a loop of Python, and so is every look at the past.
"""

import hashlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from textwrap import dedent
from typing import Any, LiteralString

import psycopg
import pytest
from tests.cli.command import Processes
from tests.cli.conftest import processes
from tests.projections import folds
from tests.projections.appending import Appending
from tests.worker.conftest import StartWorkers
from tests.worker.processes import WorkerProcesses, write_app
from tests.worker.waiting import until

from wakelog.testing import ThrowawayPostgres

__all__ = ["processes"]

# The order of a key's events shows in its chain; that of version 2 is another one, beside a column more.
_FOLD = """
    TABLES = "create table totals (key text primary key, events bigint not null, {column}chain text not null)"

    @app.projection("totals", on="counted", tables=TABLES, version={version}, partition_by="payload.key", batch=True)
    def totals(events, connection):
        # In the middle of something whenever it is killed.
        time.sleep(0.01 + len(events) * float(os.environ.get("SECONDS_AN_EVENT", "0")))
        with connection.cursor() as cursor:
            cursor.executemany({statement!r}, [{{"key": e.payload["key"], "n": e.payload["n"]}} for e in events])
"""
_ONE = """
    insert into totals values (%(key)s, 1, md5(%(n)s::text))
    on conflict (key) do update set events = totals.events + 1, chain = md5(totals.chain || %(n)s::text)
"""
_TWO = """
    insert into totals values (%(key)s, 1, %(n)s, md5(%(n)s::text))
    on conflict (key) do update set events = totals.events + 1, total = totals.total + %(n)s,
                                    chain = md5(%(n)s::text || totals.chain)
"""
CODE = {
    1: _FOLD.format(column="", version=1, statement=_ONE),
    2: _FOLD.format(column="total bigint not null, ", version=2, statement=_TWO),
}

_SLOWLY = {"SECONDS_AN_EVENT": "0.0015"}
# What is to be killed in the middle of something must not come to its end before that.
_DOOMED = {"SECONDS_AN_EVENT": "0.02"}
_FOLDING = """
    select coalesce(bool_or(runner_pid is not null), false) from wakelog.projection_status
    where attended and state = 'building' and version = %s
"""
_LOOKING_BACK = """
    select coalesce(bool_or(runner_pid is not null), false) from wakelog.projection_status
    where state = 'aside' and upto = %s
"""
_NOT_WAKELOGS_OWN = """
    select nspname from pg_namespace
    where nspname !~ '^pg_' and nspname not in ('information_schema', 'public', 'wakelog') order by 1
"""

Row = dict[str, Any]


def serial_fold(log: list[tuple[int, datetime, Any]], version: int, upto: int) -> list[Row]:
    """What a loop over the log makes of it, up to a position."""
    state: dict[str, Row] = {}
    for position, _, payload in log:
        if position > upto:
            break
        key, n = payload["key"], payload["n"]
        before = state.get(key, {"events": 0, "total": 0, "chain": ""})
        chained = f"{before['chain']}{n}" if version == 1 else f"{n}{before['chain']}"
        state[key] = {
            "key": key, "events": before["events"] + 1, "total": before["total"] + n,
            "chain": hashlib.md5(chained.encode(), usedforsecurity=False).hexdigest(),
        }  # fmt: skip
    columns = {1: ("key", "events", "chain"), 2: ("key", "events", "total", "chain")}[version]
    return [{column: state[key][column] for column in columns} for key in sorted(state)]


@dataclass
class Look:
    """A look at the past that is under way, and which position it is to come to."""

    process: "subprocess.Popen[str]"
    version: int
    position: int
    crashes: int


class Storm:
    """Everything at once on one database; whether it kept its promise is asserted on the way and at the end."""

    def __init__(
        self,
        url: str,
        chance: random.Random,
        folder: Path,
        processes: Processes,
        start_workers: StartWorkers,
        server: ThrowawayPostgres | None = None,
    ) -> None:
        self.url = url
        self.chance = chance
        self.folder = folder
        self.server = server
        self.crashes = 0
        self.compared = {1: 0, 2: 0}
        """Looks at the past that came back and were the serial fold, by version."""
        self.killed = {"worker": 0, "rebuild": 0, "look": 0}
        self._processes = processes
        self._start_workers = start_workers
        self._workers: list[WorkerProcesses] = []
        self._wanted: dict[WorkerProcesses, int] = {}
        """How many processes each of them is to have."""
        self._apps = {
            version: write_app(folder / f"code_{version}.py", dedent(code)) for version, code in CODE.items()
        }

    def ask(self, query: LiteralString, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query, parameters).fetchall()

    def log(self) -> list[tuple[int, datetime, Any]]:
        return self.ask("select position, sequenced_at, payload from wakelog.log_events order by position")  # pyright: ignore

    def serving(self) -> int:
        return self.ask("select version from wakelog.projection_status where state = 'serving'")[0][0]

    def work(self, version: int, processes: int) -> WorkerProcesses:
        workers = self._start_workers(CODE[version], url=self.url, processes=processes, lease=5)
        self._workers.append(workers)
        self._wanted[workers] = processes
        return workers

    def rebuild(self, version: int, parts: int, **environment: str) -> "subprocess.Popen[str]":
        return self._processes.start(
            "projection", "rebuild", "totals", "--app", str(self._apps[version]), "--processes", str(parts),
            folder=self.folder, DATABASE_URL=self.url, **environment,
        )  # fmt: skip

    def look_back(self, *, doomed: bool = False) -> Look:
        """Begin to look at a position, or a moment, of the log's past; one that is doomed looks at the late past."""
        log, version = self.log(), self.serving()
        position, at, _ = self.chance.choice(log[len(log) // 2 :] if doomed else log)
        if self.chance.random() < 0.5:
            asked = ("--position", str(position))
        else:
            moment = at + timedelta(microseconds=self.chance.randint(-2, 2))
            asked = ("--at", moment.isoformat())
            position = max((p for p, sequenced, _ in log if sequenced <= moment), default=0)
        process = self._processes.start(
            "projection", "show", "totals", *asked, "--app", str(self._apps[version]), "--json",
            folder=self.folder, DATABASE_URL=self.url, **(_DOOMED if doomed else {}),
        )  # fmt: skip
        return Look(process, version, position, self.crashes)

    def compare(self, look: Look) -> None:
        """Wait for what was, and hold it against the serial fold. Nothing came where its version went meanwhile."""
        out, err = look.process.communicate(timeout=60)
        if look.process.returncode != 0:
            assert self.crashes > look.crashes or self.serving() > look.version, err
            return
        found = json.loads(out)
        assert found["position"] == look.position
        assert found["tables"] == {"totals": serial_fold(self.log(), look.version, look.position)}
        self.compared[look.version] += 1

    def kill(self, what: str, process: "subprocess.Popen[str]") -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait(20)
            self.killed[what] += 1

    def kill_a_worker(self) -> None:
        workers = self.chance.choice(self._workers)
        # Those that were killed before are back: of no code all processes are away at once.
        all_of_them = sum(self._wanted.values())
        until(lambda: len(workers.pids()) >= all_of_them, within=60)
        pids = until(workers.pids)
        workers.kill(self.chance.choice(list(pids.values())))
        self.killed["worker"] += 1

    def crash(self) -> None:
        assert self.server is not None
        self.server.crash()
        self.server.start()
        self.crashes += 1

    def stop(self, workers: WorkerProcesses) -> None:
        workers.stop()
        self._workers.remove(workers)
        del self._wanted[workers]

    def round(self, version: int, *, looks: int = 1, kills: bool = True, crash: bool = False) -> None:
        """A rebuild, looks at the past and a worker, all at once; most of them do not live to see its end."""
        crashes = self.crashes
        rebuild = self.rebuild(version, self.chance.choice([1, 2]), **(_DOOMED if kills else _SLOWLY))
        looking = [self.look_back() for _ in range(looks)]
        doomed = self.look_back(doomed=True) if kills and looks else None
        self.kill_a_worker()
        if doomed is not None:
            until(
                lambda: doomed.process.poll() is not None or self.ask(_LOOKING_BACK, doomed.position)[0][0],
                within=60,
            )
            self.kill("look", doomed.process)
        until(lambda: rebuild.poll() is not None or self.ask(_FOLDING, version)[0][0], within=60)
        time.sleep(self.chance.uniform(0.0, 1.0))
        if kills:
            self.kill("rebuild", rebuild)
        if crash:
            self.crash()
        for look in looking:
            self.compare(look)
        _, err = rebuild.communicate(timeout=60)
        if rebuild.returncode not in (0, -signal.SIGKILL):
            # An older version gives way to the newer one, also in mid-rebuild.
            assert self.crashes > crashes or self.serving() > version, err

    def end(self) -> None:
        """Let everything come to rest: version 2 serves, as the serial fold has it, and nothing else is there."""
        last = self.rebuild(2, 1)
        _, err = last.communicate(timeout=60)
        assert last.returncode == 0, err
        self.compare(self.look_back())
        with psycopg.connect(self.url, autocommit=True) as connection:
            folds.until_caught_up(connection, version=2, within=40)
        log = self.log()
        assert [position for position, _, _ in log] == list(range(1, len(log) + 1))
        rows = self.ask("select key, events, total, chain from totals.totals order by key")
        assert [
            dict(zip(("key", "events", "total", "chain"), row, strict=True)) for row in rows
        ] == serial_fold(log, 2, len(log))
        one_build = [(2, "serving", "totals", False)]
        until(
            lambda: (
                self.ask("select version, state, schema, attended from wakelog.projection_builds")
                == one_build
            )
        )
        assert self.ask(_NOT_WAKELOGS_OWN) == [("totals",)]
        assert self.ask("select count(*)::int from wakelog.checkpoints") == [(1,)]


@contextmanager
def a_seed(given: int | None = None) -> Iterator[random.Random]:
    """Chance that is told of where something fails; that of WAKELOG_SEED where it is set."""
    seed = int(os.environ.get("WAKELOG_SEED", given if given is not None else random.randrange(10**6)))
    try:
        yield random.Random(seed)
    except BaseException as error:
        error.add_note(f"this was seed {seed}; again: WAKELOG_SEED={seed}")
        raise


def test_rebuilds_and_looks_at_the_past_while_a_version_is_raised(
    database: str, tmp_path: Path, processes: Processes, start_workers: StartWorkers
) -> None:
    with a_seed() as chance:
        storm = Storm(database, chance, tmp_path, processes, start_workers)
        with psycopg.connect(database, autocommit=True) as connection:
            folds.count(connection, range(1000), keys=7)
            old = storm.work(1, 2)
            folds.until_caught_up(connection)
        with Appending(database, chance.randrange(10**6)):
            storm.compare(storm.look_back())  # whatever becomes of the looks in the middle of it
            storm.round(2, looks=0)  # before the rollout, and killed in the middle of it
            storm.work(2, 1)
            storm.round(1)
            storm.stop(old)
            storm.round(2, looks=0)
        storm.end()
    assert min(storm.killed.values()) >= 1
    assert min(storm.compared.values()) >= 1


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1, 4))
def test_for_longer_with_a_server_that_crashes(
    crashable_server: ThrowawayPostgres,
    tmp_path: Path,
    processes: Processes,
    start_workers: StartWorkers,
    seed: int,
) -> None:
    url = crashable_server.url()
    with a_seed(seed) as chance:
        storm = Storm(url, chance, tmp_path, processes, start_workers, crashable_server)
        with psycopg.connect(url, autocommit=True) as connection:
            folds.count(connection, range(2500), keys=7)
            old = storm.work(1, 2)
            folds.until_caught_up(connection)
        rounds = 12
        begins, ends = chance.randint(1, 4), chance.randint(6, 9)
        with Appending(url, chance.randrange(10**6)):
            for number in range(rounds):
                if number == begins:
                    storm.work(2, 2)
                if number == ends:
                    storm.stop(old)
                storm.round(
                    chance.choice([1, 2] if number <= ends else [2, 2, 2, 1]),
                    kills=chance.random() < 0.75, crash=number in (begins + 1, ends, rounds - 2),
                )  # fmt: skip
        storm.end()
        while storm.compared[2] < 3:  # on a busy machine it may have served from late on only
            storm.compare(storm.look_back())
    assert storm.crashes == 3
    assert storm.killed["rebuild"] >= 4
    assert min(storm.compared.values()) >= 3
