"""A PostgreSQL that lives as long as a test, or a test session, and leaves nothing behind."""

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from testing.postgresql import Postgresql

from wakelog.errors import WakelogError
from wakelog.postgres.account import Account, environment, run_as, server_account
from wakelog.postgres.binaries import Binaries, find_binaries, runnable_by
from wakelog.postgres.ports import free_port

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "logging_collector": "off",
    "max_connections": "300",
    "max_prepared_transactions": "20",
    "deadlock_timeout": "200ms",
    "shared_buffers": "64MB",
}
_CARELESS = {"fsync": "off", "full_page_writes": "off"}

# Reads a line: then all is well. Reads the end of the file: the process that owned the server was killed.
_GUARD = 'read -r _ || { kill -QUIT "$1"; sleep 1; rm -rf "$2"; }'


class ThrowawayPostgres(Postgresql):
    """`testing.postgresql.Postgresql`, able to run as root, to crash and to come back.

    Running from its making until `stop`, or the end of this process however that ends. Anyone on this machine may
    connect to it as its superuser: put nothing in it that matters.

    A `durable` one survives `crash` as a real server does; another is quicker and may lose its data then.

    Raises `BinariesNotFound` when there is no PostgreSQL, `WakelogError` when it does not start.
    """

    def __init__(
        self,
        binaries: Binaries | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        durable: bool = False,
    ) -> None:
        self.account: Account | None = server_account()
        self.binaries = runnable_by(self.account, binaries or find_binaries())
        self._server_settings = {**_SETTINGS, **({} if durable else _CARELESS), **(settings or {})}
        self._guard: subprocess.Popen[bytes] | None = None
        super().__init__(port=None)

    @property
    def port(self) -> int:
        """Chosen at the first start, and the same ever after."""
        return int(self.settings["port"])

    @property
    def log(self) -> str:
        """What the server has said since it was last started."""
        return self.read_bootlog()

    def url(self, database: str = "test", **_: Any) -> str:
        """The URL of one of its databases; `test` is there from the start, and empty."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """Make a database and return its URL; a template must have no connections at that moment."""
        statement = sql.SQL("create database {} template {}")
        self._execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is still connected to it."""
        self._execute(sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name)))

    def crash(self) -> None:
        """End it as a power cut would (`pg_ctl stop -m immediate`): no checkpoint, all connections gone.

        `start` brings it back on the same port, from the same data, through recovery.
        """
        server = self._running()
        children = _children_of(server.pid)
        server.send_signal(signal.SIGQUIT)
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            # Something hangs in it, a disk perhaps. A power cut would not wait either.
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            server.kill()
            server.wait(timeout=60)
        self.child_process = None
        self._dismiss_guard()

    # From here on: what testing.postgresql calls at its own times.

    def initialize(self) -> None:
        self.initdb = str(self.binaries.program("initdb"))
        self.postgres = str(self.binaries.program("postgres"))
        if self.account is not None and not self._reaches(Path(self.base_dir)):
            # TMPDIR may be root's own; /tmp is for everyone.
            Path(self.base_dir).rmdir()
            self.base_dir = tempfile.mkdtemp(dir="/tmp")
        self._give(Path(self.base_dir))

    def initialize_database(self) -> None:
        data = Path(self.get_data_directory())
        for folder in (data, Path(self.base_dir) / "tmp"):
            self._give(folder)
        if (data / "PG_VERSION").exists():
            return
        arguments = ["-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C", "--no-sync"]
        made = run_as(self.account, [self.initdb, *arguments], home=data)
        if made.returncode != 0:
            raise WakelogError(f"expected initdb to make a throwaway PostgreSQL, but: {made.stderr.strip()}")

    def prestart(self) -> None:
        self.settings["port"] = self.settings["port"] or free_port()

    def start(self) -> None:
        """Start it again after `crash`; harmless when it runs."""
        if self.child_process is not None:
            return
        self.prestart()
        data = Path(self.get_data_directory())
        settings = [f"--{name}={value}" for name, value in self._server_settings.items()]
        with (Path(self.base_dir) / f"{self.name}.log").open("wb") as log:
            self.child_process = subprocess.Popen(
                [self.postgres, "-D", str(data), "-p", str(self.port), *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environment(data),
                # A Ctrl-C is for us: we stop the server when the tests have let go of it.
                start_new_session=True,
                user=self.account.uid if self.account else None,
                group=self.account.gid if self.account else None,
                extra_groups=[] if self.account else None,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "wakelog-guard", str(self.child_process.pid), self.base_dir],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        try:
            self.wait_booting()
            self.poststart()
        except BaseException:
            self.stop()
            raise

    def is_server_available(self) -> bool:
        try:
            psycopg.connect(self.url("template1"), connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def poststart(self) -> None:
        with psycopg.connect(self.url("postgres")) as connection:
            known = connection.execute("select 1 from pg_database where datname = 'test'").fetchone()
        if known is None:
            self.create_database("test")

    def terminate(self, *args: Any) -> None:
        super().terminate(*args)
        if self.child_process is None:
            self._dismiss_guard()

    def _dismiss_guard(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.communicate(b"all is well\n")

    def _running(self) -> subprocess.Popen[Any]:
        if self.child_process is None:
            raise WakelogError("expected a running PostgreSQL, found it stopped; call start() first")
        return self.child_process

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)

    def _reaches(self, folder: Path) -> bool:
        return run_as(self.account, ["/bin/sh", "-c", 'cd "$1/.."', "sh", folder]).returncode == 0

    def _give(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


def _children_of(parent: int) -> list[int]:
    """The processes a server has started at this moment; none where there is no /proc to tell."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name, in parentheses, may contain anything; the parent is the second field after it.
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found
