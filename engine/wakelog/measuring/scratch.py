"""A database beside the one that was named, to be measured in, and gone afterwards.

The database that was named is asked what it is, and otherwise left alone: nothing is appended to its log.

How this stays clean
--------------------
The scratch database is dropped however the measuring ends, a Ctrl-C among it, and a second Ctrl-C does not disturb
that. What only a SIGKILL can leave behind is dropped by the next run: by its name, when it is old and nobody is
connected to it. Roles that had to be made for it (roles belong to the whole server) go with it; PostgreSQL refuses
to drop one that was granted anything elsewhere in the meantime.
"""

import contextlib
import secrets
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from wakelog.errors import DatabaseUnreachable, WakelogError, one_line
from wakelog.postgres.connect import connect
from wakelog.postgres.schema import install

_MAY: LiteralString = """
    select current_user, rolcreatedb or rolsuper, pg_is_in_recovery() from pg_roles where rolname = current_user
"""
_LEFT_BEHIND: LiteralString = r"""
    select d.datname from pg_database d
    where d.datname ~ '^wakelog_bench_\d+_[0-9a-f]{8}$'
      and pg_has_role(d.datdba, 'member')
      and split_part(d.datname, '_', 3)::bigint < extract(epoch from now()) - 600
      and not exists (select from pg_stat_activity a where a.datname = d.datname)
"""
_ROLES: LiteralString = (
    r"select rolname from pg_roles where rolname in ('wakelog_writer', 'wakelog_reader', 'wakelog_worker')"
)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Where to measure; ``left_behind`` are the databases of killed runs that were dropped on the way."""

    url: str
    name: str
    left_behind: list[str]


@contextmanager
def scratch_database(url: str) -> Generator[Scratch]:
    """A new database with Wakelog's schema on the server of ``url``, dropped afterwards, whatever happens.

    Raises `WakelogError` where the role may not create databases, or the server takes no writes; it says what is
    missing. Raises `DatabaseUnreachable` where something in between does not let us to it.
    """
    with connect(url, application_name="wakelog bench") as beside:
        _expect_allowed(beside)
        left_behind = [name for (name,) in beside.execute(_LEFT_BEHIND).fetchall() if _dropped(beside, name)]
        roles = {name for (name,) in beside.execute(_ROLES).fetchall()}
        (now,) = beside.execute("select extract(epoch from now())::bigint").fetchone() or (0,)
        name = f"wakelog_bench_{now}_{secrets.token_hex(4)}"
        try:
            beside.execute(sql.SQL("create database {} template template0").format(sql.Identifier(name)))
            inside = make_conninfo(url, dbname=name)
            _install(inside)
            yield Scratch(inside, name, left_behind)
        finally:
            with _undisturbed():
                _clean_up(url, name, roles)


def _expect_allowed(connection: psycopg.Connection[Any]) -> None:
    role, may_create, standby = connection.execute(_MAY).fetchone() or ("?", False, False)
    if standby:
        raise WakelogError(
            "expected a server that takes writes, found a standby",
            hint="Give the primary's: wakelog bench --database URL",
        )
    if not may_create:
        raise WakelogError(
            f'expected a role that may create databases, for one to measure in, found that "{role}" may not',
            hint=f'Let an administrator say: alter role "{role}" createdb; or give a role that may: '
            "wakelog bench --database URL",
        )


def _install(url: str) -> None:
    try:
        connection = connect(url, application_name="wakelog bench")
    except DatabaseUnreachable as unreachable:
        raise DatabaseUnreachable(
            f"the database to measure in was made, but there was {unreachable.args[0]}",
            hint="A pooler knows only the databases it was told of. Give a direct connection: "
            "wakelog bench --database URL",
        ) from None
    with connection:
        install(connection)
        connection.execute("create table effects (position bigint)")


def _clean_up(url: str, name: str, roles_before: set[str]) -> None:
    try:
        # A connection that was interrupted may still be at its statement: so not on that one.
        with connect(url, application_name="wakelog bench") as connection:
            _drop(connection, name)
            for (role,) in connection.execute(_ROLES).fetchall():
                if role not in roles_before:
                    with contextlib.suppress(psycopg.errors.DependentObjectsStillExist):
                        connection.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))
    except (psycopg.Error, WakelogError) as error:
        raise WakelogError(
            f"the database {name}, in which was measured, could not be dropped: {one_line(error)}",
            hint=f"Drop it: drop database if exists {name}",
        ) from error


def _drop(connection: psycopg.Connection[Any], name: str) -> None:
    statement = sql.SQL("drop database if exists {}").format(sql.Identifier(name))
    try:
        connection.execute(statement)  # waits 5 seconds for sessions that are just ending
    except psycopg.errors.ObjectInUse:
        connection.execute(sql.SQL("{} with (force)").format(statement))


def _dropped(connection: psycopg.Connection[Any], name: str) -> bool:
    try:
        connection.execute(sql.SQL("drop database {}").format(sql.Identifier(name)))
    except psycopg.Error:
        return False  # somebody uses it, or was quicker
    return True


@contextmanager
def _undisturbed() -> Generator[None]:
    """Let no Ctrl-C interrupt this."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
