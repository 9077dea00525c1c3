"""The connection a projection's function gets: in the transaction that moves the checkpoint, which is not its own.

It may not end that transaction here; what it sends past this class (`execute("commit")`) the database refuses.
Writes to tables that are not the projection's are refused at the end of the transaction, by what it has locked.
"""

from collections.abc import Sequence
from typing import Any, LiteralString, NoReturn, Self

import psycopg
from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.types.json import set_json_loads

from wakelog.errors import BadInput, DatabaseUnreachable
from wakelog.postgres import jsonb
from wakelog.postgres.connect import (
    GIVE_UP_ON_US,
    may_be_cut_off,
    prepare_nothing_behind_a_pooler,
    safe_url,
    session_defaults,
)


class _GuardedCursor(psycopg.Cursor[Any]):
    """Notices at once when what it sent has ended the transaction, before more is written outside of one."""

    def execute(self, *arguments: Any, **options: Any) -> Self:
        within = self.connection.pgconn.transaction_status != TransactionStatus.IDLE
        super().execute(*arguments, **options)
        if within and self.connection.pgconn.transaction_status == TransactionStatus.IDLE:
            raise _left_alone("a statement that ends it")
        return self


class ProjectionConnection(Connection[Any]):
    """A psycopg connection whose outermost transaction is the runner's: see `commit` and `rollback`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.cursor_factory = _GuardedCursor

    def commit(self) -> NoReturn:
        """Refused: Wakelog commits, with the checkpoint."""
        raise _left_alone("a commit")

    def rollback(self) -> NoReturn:
        """Refused: raise an exception instead."""
        raise _left_alone("a rollback")

    def ask(self, query: LiteralString, parameters: Sequence[Any] | None = None) -> tuple[Any, ...] | None:
        """For the runner: a statement of any kind, and the first row it answers with."""
        with psycopg.Cursor(self, row_factory=tuple_row) as cursor:
            cursor.execute(query, parameters)
            return cursor.fetchone() if cursor.description is not None else None


def _left_alone(found: str) -> BadInput:
    return BadInput(
        f"expected a projection's function to leave its transaction alone, found {found}",
        hint="Wakelog commits, with the checkpoint; to have nothing of it, raise an exception.",
    )


def open_projection_connection(url: str, name: str) -> ProjectionConnection:
    """Raises DatabaseUnreachable."""
    try:
        connection = ProjectionConnection.connect(
            url, autocommit=True, **session_defaults(url, f"wakelog projection {name}"[:63])
        )
    except psycopg.OperationalError as error:
        reason = " ".join(str(error).split())
        raise DatabaseUnreachable(f"no connection to {safe_url(url)}: {reason}") from None
    if may_be_cut_off(connection.pgconn):
        connection.execute(GIVE_UP_ON_US)
    prepare_nothing_behind_a_pooler(connection)
    connection.execute("set default_transaction_isolation = 'read committed'")
    set_json_loads(jsonb.decode, connection)
    return connection
