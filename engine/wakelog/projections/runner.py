"""The projections of an application, kept up to date in this process: a thread for each whose turn it is here.

How this stays correct
----------------------
      steward:  register --> hold the locks --> look which builds want somebody --> wait to hear of the log, 1 s at most
                                                    |  a lock for each, tried
                                                    `--> a keeper: fold --> at the end of the log? --> serve, or sleep

The steward's connection holds, for each build that is folded here, a lock that dies with it, so one process at a
time folds a build, and another takes over within about a second. The lock saves work and no more: two that fold the
same build for a moment wait for each other at its checkpoint (see folding.py).

It also holds, shared, a lock for every version that this process has the code of. While anybody holds that of the
version that serves, no newer one takes its place: during a rolling deploy old code goes on reading and maintaining
the old tables.
"""

import logging
import os
import select
import threading
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import psycopg
from psycopg import Connection

from wakelog.errors import BadInput, CheckpointMoved, UnknownProjection, WakelogError, one_line
from wakelog.postgres.connect import connect
from wakelog.projections.builds import Build, builds_of, call, register
from wakelog.projections.connection import open_projection_connection
from wakelog.projections.definition import ProjectionDefinition
from wakelog.projections.folding import Folding, Step
from wakelog.projections.snapshots import kept

log = logging.getLogger("wakelog.projections")

POLL = 1.0
"""Seconds after which everybody looks, whether they heard anything or not."""
POOLED_POLL = 0.2
"""The same where nothing can be heard, because LISTEN does not work."""
LONGEST_PAUSE = 5.0
DROP_AGAIN = 10.0
"""Seconds between two tries to drop tables that somebody still reads."""


class Projector:
    """Runs the projections of an application until stopped. Other processes may do so too."""

    def __init__(
        self, definitions: Mapping[str, ProjectionDefinition], url: str, *, listening: bool = True
    ) -> None:
        self.definitions = {
            name: ours for name, one in definitions.items() if (ours := kept(one)) is not None
        }
        self.url = url
        self.listening = listening
        self._keepers: dict[int, _Keeper] = {}
        self._stopping = threading.Event()
        self._ears, self._mouth = os.pipe()
        self._thread = threading.Thread(target=self._run, name="wakelog-projections", daemon=True)
        self._drop_again: dict[int, float] = {}
        self._heard: set[str] = set()

    def start(self) -> None:
        """Register the projections, and go on in the background.

        Raises:
            BadInput: the database refuses what is declared of one.
            DatabaseUnreachable: there is none.
        """
        with connect(self.url, application_name="wakelog projections") as connection:
            for definition in self.definitions.values():
                register(connection, definition)
        self._thread.start()

    def stop(self, within: float = 10.0) -> None:
        """Let the transactions that are under way end, and stop; what does not end in time is left behind."""
        self._stopping.set()
        os.write(self._mouth, b"x")
        self._thread.join(within)

    def _run(self) -> None:
        pause = 0.1
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                with connect(
                    self.url,
                    application_name="wakelog projections",
                    prepare_threshold=5 if self.listening else None,
                ) as connection:
                    self._steward(connection)
            except (psycopg.Error, WakelogError) as error:
                log.warning("out of touch with the database, again in %.1f s: %s", pause, one_line(error))
            except Exception:
                log.exception("the projections go on in %.1f s", pause)
            finally:
                self._end_keepers(list(self._keepers))
            self._stopping.wait(pause)
            pause = 0.1 if time.monotonic() - started > 10 else min(pause * 2, LONGEST_PAUSE)

    def _steward(self, connection: Connection[Any]) -> None:
        for definition in self.definitions.values():
            try:
                build = register(connection, definition)
            except BadInput as refused:
                log.error("%s", one_line(refused))
                continue
            if build is None:
                log.warning(
                    'projection "%s": version %s of this application is older than what serves, and left alone',
                    definition.name, definition.version,
                )  # fmt: skip
            elif self.listening:
                connection.execute(
                    """select pg_advisory_lock_shared(wakelog.lock_space('projection code'),
                              wakelog.code_key(wakelog.projection_id(%s), %s))""",
                    [definition.name, definition.version],
                )
        if self.listening:
            connection.add_notify_handler(self._note)
            connection.execute("listen wakelog_log")
            connection.execute("listen wakelog_projections")
        next_look = 0.0
        poll = POLL if self.listening else POOLED_POLL
        while not self._stopping.is_set():
            if time.monotonic() >= next_look or any(not one.is_alive() for one in self._keepers.values()):
                self._look_after(connection)
                next_look = time.monotonic() + poll
            heard = self._hear(connection, next_look - time.monotonic())
            if "wakelog_projections" in heard:
                next_look = 0.0
            if not heard and not self._stopping.is_set():
                connection.execute("select wakelog.sequence()")
            for keeper in self._keepers.values():
                keeper.wake.set()

    def _hear(self, connection: Connection[Any], seconds: float) -> set[str]:
        """The channels that something was heard on since the last time, or within so many seconds."""
        if not self._heard:
            select.select([connection.fileno(), self._ears], [], [], max(seconds, 0.0))
            connection.pgconn.consume_input()
            while (notification := connection.pgconn.notifies()) is not None:
                self._heard.add(notification.relname.decode())
        heard, self._heard = self._heard, set()
        return heard

    def _note(self, notification: psycopg.Notify) -> None:
        """What arrives while something else is asked on the same connection."""
        self._heard.add(notification.channel)

    def _look_after(self, connection: Connection[Any]) -> None:
        """Begin to fold what nobody folds, leave what is not to be folded, drop what nobody needs."""
        builds = {one.build: one for one in builds_of(connection, list(self.definitions))}
        wanted = {number: one for number, one in builds.items() if self._is_ours(one)}
        gone = [n for n, keeper in self._keepers.items() if n not in wanted or not keeper.is_alive()]
        self._end_keepers(gone)
        for number in gone:
            if self.listening:
                connection.execute(
                    "select pg_advisory_unlock(wakelog.lock_space('projection'), %s)", [number]
                )
        for number, one in wanted.items():
            if number not in self._keepers and self._elected(connection, number):
                definition = self.definitions[one.projection]
                self._keepers[number] = _Keeper(
                    self.url, one, definition if definition.version == one.version else None,
                    poll=POLL if self.listening else POOLED_POLL,
                )  # fmt: skip
                self._keepers[number].start()
        for number, one in builds.items():
            if one.left_behind and self._drop_again.get(number, 0.0) <= time.monotonic():
                self._drop(connection, number)

    def _is_ours(self, one: Build) -> bool:
        if one.attended or one.paused or one.state not in ("building", "serving"):
            return False
        if one.state == "serving" and one.mode == "inline":
            return False
        return one.kind == "sql" or self.definitions[one.projection].version == one.version

    def _elected(self, connection: Connection[Any], number: int) -> bool:
        if not self.listening:
            return True
        return call(connection, "select pg_try_advisory_lock(wakelog.lock_space('projection'), %s)", [number])

    def _drop(self, connection: Connection[Any], number: int) -> None:
        """Drop tables that are for nobody any more, unless a reader still has them in hand."""
        self._drop_again[number] = time.monotonic() + DROP_AGAIN
        try:
            with connection.transaction():
                connection.execute("set local lock_timeout = '100ms'")
                connection.execute("select wakelog.drop_build(%s)", [number])
        except psycopg.OperationalError as error:
            if connection.closed or connection.broken:
                raise
            log.info("the tables of build %s are still read: %s", number, one_line(error))
        except psycopg.Error as error:
            log.info("the tables of build %s were not dropped: %s", number, one_line(error))

    def _end_keepers(self, numbers: list[int]) -> None:
        for number in numbers:
            self._keepers[number].stop()
        for number in numbers:
            self._keepers.pop(number).join(10.0)


class _Keeper(threading.Thread):
    """Folds one build for as long as it is this process's turn."""

    def __init__(
        self, url: str, build: Build, definition: ProjectionDefinition | None, *, poll: float
    ) -> None:
        super().__init__(name=f"wakelog-projection-{build.projection}", daemon=True)
        self.wake = threading.Event()
        self._url = url
        self._build = build
        self._definition = definition
        self._poll = poll
        self._building = build.state == "building"
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()
        self.wake.set()

    def run(self) -> None:
        pause = 0.1
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                with closing(open_projection_connection(self._url, self._build.projection)) as connection:
                    self._fold(Folding(connection, self._build.build, self._definition))
                    return
            except UnknownProjection:
                return
            except CheckpointMoved:
                continue
            except (psycopg.Error, WakelogError) as error:
                log.warning(
                    'projection "%s": again in %.1f s: %s', self._build.projection, pause, one_line(error)
                )
            except Exception:
                log.exception('projection "%s": again in %.1f s', self._build.projection, pause)
            self._stopping.wait(pause)
            pause = 0.1 if time.monotonic() - started > 10 else min(pause * 2, LONGEST_PAUSE)

    def _fold(self, folding: Folding) -> None:
        next_try = 0.0
        while not self._stopping.is_set():
            self.wake.clear()
            step = folding.advance()
            self._tell(step)
            if self._building and time.monotonic() >= next_try and folding.may_serve(step):
                next_try = time.monotonic() + self._poll
                _, served = folding.catch_up_and_serve()
                if served:
                    log.info('projection "%s" version %s serves', self._build.projection, self._build.version)
                    self._building = False
                    if self._build.mode == "inline":
                        return
            if step.at_end:
                self.wake.wait(self._poll)

    def _tell(self, step: Step) -> None:
        if step.poison is None:
            return
        name = self._build.projection
        if step.stopped:
            log.error(
                'projection "%s" stopped at position %s: %s; mend it, then: wakelog projection resume %s',
                name, step.upto, step.poison, name,
            )  # fmt: skip
        else:
            log.warning('projection "%s" skipped position %s: %s', name, step.upto, step.poison)


def catch_up(url: str, definitions: Mapping[str, ProjectionDefinition]) -> list[str]:
    """Fold every projection up to where the log is now, in this thread; a line for each that stopped.

    Raises BadInput, psycopg.Error.
    """
    stopped: list[str] = []
    with connect(url, application_name="wakelog projections") as connection:
        for declared in definitions.values():
            definition = kept(declared)
            number = register(connection, definition) if definition is not None else None
            if number is None or definition is None:
                continue
            (found,) = (one for one in builds_of(connection, [definition.name]) if one.build == number)
            if found.state == "serving" and found.mode == "inline":
                continue
            with closing(open_projection_connection(url, definition.name)) as own:
                folding = Folding(own, number, definition)
                while not (step := folding.advance()).at_end and not step.stopped:
                    pass
                if found.state == "building" and step.upto >= step.head:
                    folding.catch_up_and_serve()
            stopped += [
                f'projection "{one.projection}" stopped at {one.failed_position}: {one.error}'
                for one in builds_of(connection, [definition.name])
                if one.error is not None and one.build == number
            ]
    return stopped
