"""Connections to the database, and one clear sentence when there is none."""

import os
import re
from typing import Any

import psycopg
from psycopg import AsyncConnection, Connection
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from wakelog.errors import BadInput, DatabaseUnreachable, SchemaMismatch

OLDEST_POSTGRES = 14
CONNECT_TIMEOUT = 10
"""Seconds, unless the URL says otherwise."""
KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_COUNT = 10, 5, 4
"""After 10 s of silence the other side is asked every 5 s, and held to be gone after 4 questions."""
CUT_OFF = 30_000
"""Milliseconds that what was sent may go unconfirmed."""

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
            url, autocommit=autocommit, **_defaults(url, application_name), **options
        )
    except psycopg.OperationalError as error:
        raise _unreachable(url, error) from None
    try:
        _check_server(connection.info)
    except SchemaMismatch:
        connection.close()
        raise
    return connection


async def connect_async(
    url: str, *, autocommit: bool = True, application_name: str = "wakelog", **options: Any
) -> AsyncConnection[Any]:
    """`connect` for asyncio."""
    url = database_url(url)
    try:
        connection = await AsyncConnection.connect(
            url, autocommit=autocommit, **_defaults(url, application_name), **options
        )
    except psycopg.OperationalError as error:
        raise _unreachable(url, error) from None
    try:
        _check_server(connection.info)
    except SchemaMismatch:
        await connection.close()
        raise
    return connection


async def free_when_cut_off(connection: AsyncConnection[Any]) -> None:
    """Have the server end this session, and free its locks, half a minute after the network took its client away.

    Left to itself it would wait for two hours. Not behind a pooler, which would hand the setting on to others.
    """
    await connection.execute(
        """select set_config('tcp_keepalives_idle', %s, false), set_config('tcp_keepalives_interval', %s, false),
                  set_config('tcp_keepalives_count', %s, false), set_config('tcp_user_timeout', %s, false)""",
        [str(KEEPALIVE_IDLE), str(KEEPALIVE_INTERVAL), str(KEEPALIVE_COUNT), str(CUT_OFF)],
    )


def _defaults(url: str, application_name: str) -> dict[str, Any]:
    wanted = {
        "application_name": application_name,
        "connect_timeout": CONNECT_TIMEOUT,
        "keepalives_idle": KEEPALIVE_IDLE,
        "keepalives_interval": KEEPALIVE_INTERVAL,
        "keepalives_count": KEEPALIVE_COUNT,
    }
    return {key: value for key, value in wanted.items() if key not in (_read(url) or {})}


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
