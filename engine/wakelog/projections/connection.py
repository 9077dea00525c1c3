"""The connection a projection's function gets: inside the transaction that moves the checkpoint, which is not its own.

It may not end that transaction here; what it sends past this class (`execute("commit")`) the database refuses. Writes to
tables that are not the projection's are refused at the end of the transaction, by what it has locked.
"""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, NoReturn

import psycopg
from psycopg import Connection, IsolationLevel, Transaction
from psycopg.types.json import set_json_loads

from wakelog.errors import BadInput, DatabaseUnreachable
from wakelog.postgres import jsonb
from wakelog.postgres.connect import GIVE_UP_ON_US, may_be_cut_off, safe_url, session_defaults


class ProjectionConnection(Connection[Any]):
    """A psycopg connection whose outermost transaction is the runner's: see `commit` and `rollback`."""

    def commit(self) -> NoReturn:
        """Refused: Wakelog commits, with the checkpoint."""
        raise BadInput("expected a projection to leave its transaction alone, found a commit; Wakelog commits")

    def rollback(self) -> NoReturn:
        """Refused: raise an exception instead."""
        raise BadInput("expected a projection to leave its transaction alone, found a rollback; raise instead")

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Generator[Transaction]:
        """A savepoint: the transaction around it is the runner's."""
        with super().transaction(savepoint_name, force_rollback) as transaction:
            yield transaction

    def begun(self) -> None:
        """For the runner: begin."""
        self.execute("begin")

    def committed(self) -> None:
        """For the runner: commit what there is."""
        self.execute("commit")

    def undone(self) -> None:
        """For the runner: roll back what there is."""
        self.execute("rollback")


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
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    connection.execute("set default_transaction_isolation = 'read committed'")
    set_json_loads(jsonb.decode, connection)
    return connection
