"""The connections a caller may bring, and one way to run a statement over any of them.

psycopg's own or SQLAlchemy's, each for asyncio or not. The statement takes part in whatever transaction the
connection is in; what is awaited over an asyncio connection is returned as it is over another.
"""

import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, LiteralString, TypeGuard, TypeVar

import psycopg
from psycopg.rows import tuple_row

from wakelog import errors
from wakelog.privacy.loading import read_json_veiled

if TYPE_CHECKING:
    import sqlalchemy as sa
    import sqlalchemy.ext.asyncio as sa_asyncio
    import sqlalchemy.orm as sa_orm

    SyncConnection = psycopg.Connection[Any] | sa.Connection | sa_orm.Session
    AsyncConnection = psycopg.AsyncConnection[Any] | sa_asyncio.AsyncConnection | sa_asyncio.AsyncSession

T = TypeVar("T")
Rows = Sequence[Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Statement:
    """SQL with parameters written %(name)s, and the names of the columns it returns.

    `prepare` as psycopg has it: False for one whose best plan depends on its parameters.
    """

    text: LiteralString
    columns: tuple[str, ...]
    prepare: bool | None = None


def run(
    connection: "SyncConnection | AsyncConnection",
    statement: Statement,
    parameters: dict[str, Any],
    finish: Callable[[Rows], T],
) -> Any:
    """Run a statement, and return `finish(rows)`, or an awaitable of it.

    Raises what `translated` makes of the database's errors, and `BadInput` for something that is no connection.
    """
    if isinstance(connection, psycopg.Connection):
        with translated(), connection.cursor(row_factory=tuple_row) as cursor:
            read_json_veiled(cursor)
            return finish(cursor.execute(statement.text, parameters, prepare=statement.prepare).fetchall())
    if isinstance(connection, psycopg.AsyncConnection):
        return _run_async(connection, statement, parameters, finish)
    if is_sqlalchemy_async(connection):
        return _run_sqlalchemy_async(connection, statement, parameters, finish)
    if is_sqlalchemy(connection):
        with translated():
            return finish(connection.execute(_for_sqlalchemy(statement), parameters).all())
    raise unknown(connection)


def converse(
    connection: "SyncConnection | AsyncConnection",
    talk: Generator[tuple[Statement, dict[str, Any]], Rows, T],
) -> Any:
    """Run what a generator asks for, send it the rows, and return what it returns in the end, or an awaitable of it."""
    if is_async(connection):
        return _converse_async(connection, talk)
    asked = _begin(talk)
    while not isinstance(asked, _End):
        asked = _go_on(talk, run(connection, *asked, _as_they_are))
    return asked.value


async def _converse_async(connection: Any, talk: Generator[tuple[Statement, dict[str, Any]], Rows, T]) -> T:
    asked = _begin(talk)
    while not isinstance(asked, _End):
        rows: Rows = await run(connection, *asked, _as_they_are)
        asked = _go_on(talk, rows)
    return asked.value


@dataclass(frozen=True, slots=True)
class _End:
    value: Any


def _begin(
    talk: Generator[tuple[Statement, dict[str, Any]], Rows, Any],
) -> "tuple[Statement, dict[str, Any]] | _End":
    try:
        return next(talk)
    except StopIteration as end:
        return _End(end.value)


def _go_on(
    talk: Generator[tuple[Statement, dict[str, Any]], Rows, Any], rows: Rows
) -> "tuple[Statement, dict[str, Any]] | _End":
    try:
        return talk.send(rows)
    except StopIteration as end:
        return _End(end.value)


def _as_they_are(rows: Rows) -> Rows:
    return rows


async def _run_async(
    connection: psycopg.AsyncConnection[Any],
    statement: Statement,
    parameters: dict[str, Any],
    finish: Callable[[Rows], T],
) -> T:
    with translated():
        async with connection.cursor(row_factory=tuple_row) as cursor:
            read_json_veiled(cursor)
            await cursor.execute(statement.text, parameters, prepare=statement.prepare)
            return finish(await cursor.fetchall())


async def _run_sqlalchemy_async(
    connection: "sa_asyncio.AsyncConnection | sa_asyncio.AsyncSession",
    statement: Statement,
    parameters: dict[str, Any],
    finish: Callable[[Rows], T],
) -> T:
    with translated():
        return finish((await connection.execute(_for_sqlalchemy(statement), parameters)).all())


def is_sqlalchemy(connection: Any) -> "TypeGuard[sa.Connection | sa_orm.Session]":
    """Whether it is one of SQLAlchemy's, without importing it for those who do not use it."""
    return _has_base(
        connection,
        {
            "sqlalchemy.engine.base.Connection",
            "sqlalchemy.orm.session.Session",
            "sqlalchemy.orm.scoping.scoped_session",
        },
    )


def is_sqlalchemy_async(
    connection: Any,
) -> "TypeGuard[sa_asyncio.AsyncConnection | sa_asyncio.AsyncSession]":
    """Whether it is one of SQLAlchemy's for asyncio."""
    return _has_base(
        connection,
        {
            "sqlalchemy.ext.asyncio.engine.AsyncConnection",
            "sqlalchemy.ext.asyncio.session.AsyncSession",
            "sqlalchemy.ext.asyncio.scoping.async_scoped_session",
        },
    )


def is_session(connection: Any) -> bool:
    """Whether it is one of SQLAlchemy's sessions, for asyncio or not, rather than a connection."""
    return hasattr(connection, "get_bind")


def is_async(connection: Any) -> bool:
    """Whether statements over it are awaited."""
    return isinstance(connection, psycopg.AsyncConnection) or is_sqlalchemy_async(connection)


def unknown(connection: Any) -> errors.BadInput:
    """The error for something that is no connection."""
    return errors.BadInput(
        "expected a psycopg Connection or AsyncConnection, or a SQLAlchemy Connection, Session, AsyncConnection or "
        f"AsyncSession; found {type(connection).__module__}.{type(connection).__qualname__}"
    )


@contextmanager
def translated() -> Generator[None]:
    """Raise the Wakelog error that a database error stands for; others pass as they are."""
    try:
        yield
    except psycopg.Error as error:
        known = _known(error)
        if known is None:
            raise
        raise known from error
    except Exception as error:
        # SQLAlchemy keeps the driver's error in `orig`, and drivers the SQLSTATE under one of two names.
        original = getattr(error, "orig", None)
        known = _known(original) if isinstance(original, Exception) else None
        if known is None:
            raise
        raise known from error


def _known(error: Exception) -> errors.WakelogError | None:
    if isinstance(error, psycopg.Error):
        known = errors.translate(error)
        message = error.diag.message_primary or str(error)
        state = error.sqlstate
    else:
        state = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        kind = errors.BY_SQLSTATE.get(state or "")
        known = kind(message) if kind else None
    # jsonb's limits, and text that is no jsonb: nothing the caller could not have known.
    if known is None and state in ("22P05", "22P02", "54000"):
        return errors.BadInput(message)
    return known


def _has_base(connection: Any, names: set[str]) -> bool:
    return any(f"{base.__module__}.{base.__qualname__}" in names for base in type(connection).__mro__)


@cache
def _for_sqlalchemy(statement: Statement) -> Any:
    import sqlalchemy

    from wakelog.log.tables import events, log

    # With their types named, every driver gives the same Python values.
    known = {column.name: column for column in (*log.c, *events.c)}
    text = sqlalchemy.text(re.sub(r"%\((\w+)\)s", r":\1", statement.text))
    columns: list[Any] = [
        known[name] if name in known else sqlalchemy.column(name) for name in statement.columns
    ]
    return text.columns(*columns)
