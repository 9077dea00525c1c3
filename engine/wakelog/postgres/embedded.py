"""A private PostgreSQL in a folder of the project, for when nobody has set DATABASE_URL.

How this stays correct
----------------------
Several processes may use one folder at the same moment, and any of them may be killed at any point. Two lock files
decide everything, and the kernel frees both when a process dies:

- `lock` is held exclusively by whoever starts or stops the server; so there is one such process at a time.
- `in-use` is held shared by every process that uses the server. Who leaves tries to have it exclusively: granted
  means that nobody else is left, and the server is stopped. The last one out turns off the light, whoever turned it on.

A process that is killed leaves the server running. The next one to come finds it, uses it, and stops it when it is the
last. Nothing else is believed: a lock file of PostgreSQL's own counts only while the process it names is a server
of this very folder.

As root the server runs as the owner of the data, or as `postgres` or `nobody`. Where that account cannot reach the
folder (/root, say) the data lies in /var/lib/wakelog, and `server.json` in the folder says where.
"""

import atexit
import fcntl
import hashlib
import json
import os
import secrets
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import psycopg
from psycopg import sql

from wakelog.postgres.account import server_account
from wakelog.postgres.binaries import (
    Binaries,
    BinariesNotFound,
    all_binaries,
    binaries_of_major,
    find_binaries,
    runnable_by,
)
from wakelog.postgres.cluster import (
    SUPERUSER,
    Cluster,
    PortTaken,
    ServerFailed,
    holds_data_of,
    port_served_from,
)
from wakelog.postgres.ports import free_port, is_free

__all__ = ["EmbeddedPostgres", "ServerFailed"]

DATABASE = "wakelog"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    # Nothing to own, to keep short or to leave behind: the URL is all there is.
    "unix_socket_directories": "",
    "max_connections": "200",
    "cluster_name": "wakelog",
    "logging_collector": "off",
    "log_destination": "stderr",
}
_ELSEWHERE = Path("/var/lib/wakelog")


class EmbeddedPostgres:
    """The private PostgreSQL of one folder, `.wakelog` by custom; made when it is first started.

    A context manager: started on entry, stopped on exit unless another process uses it. It listens on 127.0.0.1
    only and asks for the password that is in `url` (and in the file `password`, for its owner's eyes).
    """

    def __init__(
        self,
        folder: Path | str = ".wakelog",
        *,
        binaries: Binaries | None = None,
        settings: Mapping[str, str] | None = None,
        timeout: float = 60,
    ) -> None:
        """`settings` go on top of Wakelog's own at the next start; `timeout` is for a start or a stop, in seconds."""
        self.folder = Path(folder).resolve()
        self._binaries = binaries
        self._settings = {**_SETTINGS, **(settings or {})}
        self._timeout = timeout
        self._cluster: Cluster | None = None
        self._port: int | None = None
        self._in_use: int | None = None
        self._pid = os.getpid()

    def start(self) -> str:
        """Make sure the server runs, and return its URL; at once when it runs already.

        It stays up at least until `stop`, or the end of this process.

        Raises `BinariesNotFound` when there is no PostgreSQL to run, or none of the version that made the data;
        `ServerFailed` when it does not start; both say what to do.
        """
        if self._in_use is not None:
            return self.url
        self._prepare_folder()
        with self._alone():
            cluster = self._cluster = self._locate()
            in_use = os.open(self.folder / "in-use", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(in_use, fcntl.LOCK_SH)
            self._in_use = in_use
            try:
                password = self._password(cluster)
                if not cluster.exists():
                    cluster.create(password)
                self._port = cluster.port() or self._launch(cluster)
                self._wait_until_it_answers()
            except BaseException:
                self._leave(cluster)
                raise
        atexit.register(self.stop)
        return self.url

    def stop(self) -> None:
        """Leave the server; the last process to leave stops it and waits for its end. Harmless when not started.

        Raises `ServerFailed` when it will not end.
        """
        if self._in_use is None or self._cluster is None or os.getpid() != self._pid:
            return
        atexit.unregister(self.stop)
        with self._alone():
            self._leave(self._cluster)

    @property
    def url(self) -> str:
        """Where the server is, password included; good for psql, psycopg and SQLAlchemy alike.

        Raises `ServerFailed` while it is not started.
        """
        return self._url(DATABASE)

    @property
    def running(self) -> bool:
        """Whether a server runs from this folder, ours or another process's; changes nothing."""
        return port_served_from(self.data_folder) is not None

    @property
    def binaries(self) -> Binaries:
        """The PostgreSQL that runs, or would run, from this folder; raises `BinariesNotFound` if there is none."""
        return self._cluster.binaries if self._cluster else self._programs_for(self.data_folder)

    @property
    def data_folder(self) -> Path:
        """Where the data lies: in `folder`, unless the account that runs the server cannot reach that."""
        return self._place() / "postgres"

    @property
    def log_file(self) -> Path:
        """What the server has to say."""
        return self._place() / "postgres.log"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _prepare_folder(self) -> None:
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            ignore = self.folder / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n")
            os.close(os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600))
        except OSError as refused:
            owner = self.folder.owner() if self.folder.exists() else "nobody"
            raise ServerFailed(
                f"expected to be able to write to {self.folder}, which belongs to {owner}: {refused.strerror}; "
                "run as that account, work in another folder, or set DATABASE_URL to a server of your own"
            ) from refused

    def _locate(self) -> Cluster:
        """The data folder, its account and its programs, as things stand now."""
        place = self._place()
        data = place / "postgres"
        account = server_account(existing=data)
        if account is None and data.exists() and not os.access(data, os.R_OK | os.W_OK | os.X_OK):
            raise ServerFailed(
                f"expected the data in {data} to be ours, found that it belongs to {data.owner()}; run as root or as "
                f"{data.owner()}, work in another folder, or set DATABASE_URL to a server of your own"
            )
        if not data.exists() and not holds_data_of(account, place):
            place = self._elsewhere()
            data = place / "postgres"
        binaries = runnable_by(account, self._programs_for(data))
        return Cluster(data=data, log=place / "postgres.log", binaries=binaries, account=account)

    def _programs_for(self, data: Path) -> Binaries:
        try:
            major = int((data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return self._binaries or find_binaries()
        if self._binaries is not None and self._binaries.major == major:
            return self._binaries
        found = binaries_of_major(major)
        if found is None:
            others = "; ".join(map(str, all_binaries())) or "none at all"
            raise BinariesNotFound(
                f"expected PostgreSQL {major}, which made the data in {data}, found {others}; install PostgreSQL "
                f"{major} or name its folder of programs in WAKELOG_PG_BIN; or move {self.folder} away to start afresh"
            )
        return found

    def _place(self) -> Path:
        elsewhere = self._remembered().get("data")
        return Path(elsewhere) if isinstance(elsewhere, str) else self.folder

    def _elsewhere(self) -> Path:
        name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
        place = _ELSEWHERE / name
        if (place / "postgres").exists() and not (self.folder / "password").exists():
            # Left by a folder of this path that has been deleted, its password with it: not ours to open.
            place = _ELSEWHERE / f"{name}-{secrets.token_hex(4)}"
        try:
            place.mkdir(mode=0o755, parents=True, exist_ok=True)
        except OSError as refused:
            raise ServerFailed(
                f"expected to keep the data in {self.folder} or in {place}, but the account that runs the server "
                f"cannot reach the one and the other cannot be made ({refused.strerror}); work in a folder that "
                "others may pass through (chmod o+x), or set DATABASE_URL to a server of your own"
            ) from refused
        self._remember(data=str(place))
        return place

    def _password(self, cluster: Cluster) -> str:
        file = self.folder / "password"
        try:
            return file.read_text().strip()
        except FileNotFoundError:
            if cluster.exists():
                raise ServerFailed(
                    f"expected the password of the data in {cluster.data} in {file}, found no such file; "
                    f"bring it back, or move {self.folder} and {cluster.data} away to start afresh"
                ) from None
        password = secrets.token_urlsafe(24)
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
            new.write(password + "\n")
        return password

    def _launch(self, cluster: Cluster) -> int:
        remembered = self._remembered().get("port")
        port = remembered if isinstance(remembered, int) and is_free(remembered) else free_port()
        for attempts_left in (4, 3, 2, 1, 0):
            try:
                cluster.launch(port, self._settings, self._timeout)
                break
            except PortTaken:
                # Somebody took it after we had looked.
                if attempts_left == 0:
                    raise
                port = free_port()
        self._remember(port=port)
        return port

    def _wait_until_it_answers(self) -> None:
        """One that another process left in the middle of its start may need a moment yet."""
        until = time.monotonic() + self._timeout
        while True:
            try:
                self._make_database_once()
                return
            except psycopg.OperationalError as refused:
                if "authentication failed" in str(refused) or time.monotonic() > until:
                    raise ServerFailed(
                        f"expected PostgreSQL in {self.data_folder} to answer on port {self._port}, but: "
                        f"{str(refused).strip()}; see {self.log_file}"
                    ) from refused
            time.sleep(0.05)

    def _make_database_once(self) -> None:
        with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=10) as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone()
            if known is None:
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))

    def _leave(self, cluster: Cluster) -> None:
        in_use, self._in_use, self._port = self._in_use, None, None
        if in_use is None:
            return
        try:
            fcntl.flock(in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        else:
            cluster.stop(self._timeout)
        finally:
            # Said in words, because a forked child may still have a copy of the file open.
            fcntl.flock(in_use, fcntl.LOCK_UN)
            os.close(in_use)

    @contextmanager
    def _alone(self) -> Generator[None]:
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)

    def _url(self, database: str) -> str:
        if self._port is None:
            raise ServerFailed(
                f"expected the server of {self.folder} to be started, found it is not; call start()"
            )
        password = (self.folder / "password").read_text().strip()
        return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{self._port}/{database}"

    def _remembered(self) -> dict[str, Any]:
        try:
            return cast("dict[str, Any]", json.loads((self.folder / "server.json").read_text()))
        except (OSError, ValueError):
            return {}

    def _remember(self, **facts: Any) -> None:
        file = self.folder / "server.json"
        new = file.with_suffix(".new")
        new.write_text(json.dumps({**self._remembered(), **facts}, indent=2) + "\n")
        new.replace(file)
