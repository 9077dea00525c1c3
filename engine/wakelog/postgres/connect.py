"""Connections to the database, and one clear sentence when there is none."""

import ipaddress
import os
import re
from typing import Any, LiteralString

import psycopg
from psycopg import Connection, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import tuple_row

from wakelog.errors import BadInput, DatabaseUnreachable, SchemaMismatch
from wakelog.postgres.watched import WatchedConnection

OLDEST_POSTGRES = 14
CONNECT_TIMEOUT = 10
"""Seconds, unless the URL says otherwise."""

# A connection whose other end has silently gone, as behind a cut cable, is given up on both sides after 10 s or a
# little more. Left to itself the server would keep the session, and all its locks, for two hours.
_GIVE_UP = {
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
GIVE_UP_ON_US: LiteralString = """
    select pg_catalog.set_config('tcp_keepalives_idle', '5', false),
           pg_catalog.set_config('tcp_keepalives_interval', '3', false),
           pg_catalog.set_config('tcp_keepalives_count', '3', false),
           pg_catalog.set_config('tcp_user_timeout', '10s', false);
"""
"""Said to the server, for its side. Only for the session that says it, and until it says `reset all`."""

# What SQLAlchemy and others add to the scheme to name a driver.
_DRIVER = re.compile(r"^(postgres(?:ql)?)\+\w+://")
# To the last @, in case the password has one that should have been written %40.
_PASSWORD_IN_URL = re.compile(r"^([^:/]+://[^:/?#@]*):.*@")
_PASSWORD_PARAMETER = re.compile(r"([?&](?:ssl)?password=)[^&]*")


def database_url(given: str | None = None) -> str:
    """The database to use: the one given, else that of the environment's DATABASE_URL.

    Takes postgres://, postgresql://, either with a driver (postgresql+psycopg://), and libpq's key=value form.

    Raises `BadInput` when there is neither, or when it cannot be read.
    """
    chosen = (given or os.environ.get("DATABASE_URL") or "").strip()
    if not chosen:
        raise BadInput(
            "expected a database URL, found none",
            hint="Give one (--database postgresql://user@host/name) or set DATABASE_URL.",
        )
    url = _DRIVER.sub(r"\1://", chosen)
    read = _read(url)
    # A port that is no number is the beginning of a password with a / in it.
    if read is None or re.search(r"[^\d,]", str(read.get("port", ""))):
        raise BadInput(
            f"expected a URL such as postgresql://user@host:5432/name, found {safe_url(url)}",
            hint="Characters such as @ and / in a password are written as %40 and %2F.",
        )
    return url


def safe_url(url: str) -> str:
    """The same database without its password, fit for messages and logs."""
    url = _DRIVER.sub(r"\1://", url.strip())
    if "://" in url:
        return _PASSWORD_PARAMETER.sub(r"\1***", _PASSWORD_IN_URL.sub(r"\1:***@", url))
    read = _read(url)
    if read is None:
        return "something that is no URL"
    return make_conninfo("", **{key: "***" if "password" in key else value for key, value in read.items()})


def connect(
    url: str, *, autocommit: bool = True, application_name: str = "wakelog", **options: Any
) -> Connection[Any]:
    """Connect, with psycopg's `options` (row_factory, prepare_threshold, ...).

    Raises `BadInput` for an unusable URL, `DatabaseUnreachable` when no connection can be made, `SchemaMismatch` when
    the server is older than PostgreSQL 14.
    """
    url = database_url(url)
    try:
        connection = psycopg.connect(
            url, autocommit=True, **session_defaults(url, application_name), **options
        )
    except psycopg.OperationalError as error:
        raise _unreachable(url, error) from None
    try:
        _check_server(connection.info)
        if may_be_cut_off(connection.pgconn):
            connection.execute(GIVE_UP_ON_US)
        connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


async def connect_async(
    url: str, *, autocommit: bool = True, application_name: str = "wakelog", **options: Any
) -> WatchedConnection:
    """`connect` for asyncio."""
    url = database_url(url)
    try:
        connection = await WatchedConnection.connect(
            url, autocommit=True, **session_defaults(url, application_name), **options
        )
    except psycopg.OperationalError as error:
        raise _unreachable(url, error) from None
    try:
        _check_server(connection.info)
        if may_be_cut_off(connection.pgconn):
            await connection.execute(GIVE_UP_ON_US)
        await connection.set_autocommit(autocommit)
    except BaseException:
        await connection.close()
        raise
    return connection


def session_defaults(url: str, application_name: str) -> dict[str, Any]:
    """What a connection of ours is made with, where the URL does not say otherwise."""
    wanted = {"application_name": application_name, "connect_timeout": CONNECT_TIMEOUT, **_GIVE_UP}
    return {key: value for key, value in wanted.items() if key not in (_read(url) or {})}


def may_be_cut_off(pgconn: pq.abc.PGconn) -> bool:
    """Whether a network lies in between: neither a Unix socket nor this machine's own address 127.0.0.1 or ::1."""
    address = pgconn.hostaddr.decode().partition("%")[0]
    try:
        return not ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def prepare_nothing_behind_a_pooler(connection: Connection[Any]) -> None:
    """Have statements sent as they are where a pooler is in between: its next session would not know what was prepared.

    Told by the process that answers, which is not the one that was named when the connection was made.
    """
    row = (
        psycopg.Cursor(connection, row_factory=tuple_row)
        .execute("select pg_backend_pid()", prepare=False)
        .fetchone()
    )
    if row != (connection.info.backend_pid,):
        connection.prepare_threshold = None


def _unreachable(url: str, error: psycopg.Error) -> DatabaseUnreachable:
    reason = str(error).strip()
    password = (_read(url) or {}).get("password")
    if password:
        reason = reason.replace(str(password), "***")
    reason = " ".join(reason.split())
    return DatabaseUnreachable(
        f"no connection to {safe_url(url)}: {reason}", hint="Is the server running, and the URL right?"
    )


def _check_server(info: psycopg.ConnectionInfo) -> None:
    major = info.server_version // 10000
    if major < OLDEST_POSTGRES:
        raise SchemaMismatch(
            f"expected PostgreSQL {OLDEST_POSTGRES} or newer, found {major}",
            expected=OLDEST_POSTGRES,
            found=major,
        )


def _read(url: str) -> dict[str, Any] | None:
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.ProgrammingError:
        return None
