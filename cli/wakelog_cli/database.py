"""Which database a command talks to, and the connection to it."""

import os
import shutil
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from uuid import UUID

import click

from wakelog_cli.failures import ExitCode, Failure

if TYPE_CHECKING:
    from psycopg import Connection

FOLDER = ".wakelog"

_Parameters = Mapping[str, Any]


def private_folder() -> Path | None:
    """The nearest `.wakelog` here or above, but of those above only one that belongs to us."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        found = folder / FOLDER
        try:
            if found.is_dir() and (folder == here or found.stat().st_uid == os.geteuid()):
                return found
        except OSError:
            continue
    return None


def psql_program() -> str:
    """psql, or where that is not on the path, the one that came with the private server."""
    if shutil.which("psql"):
        return "psql"
    from wakelog.postgres.binaries import all_binaries

    for binaries in all_binaries():
        if binaries.program("psql").exists():
            return str(binaries.program("psql"))
    return "psql"


def is_named(given: str | None) -> bool:
    """Whether somebody said which database to use, as an option or in the environment."""
    return bool(given or os.environ.get("DATABASE_URL"))


def find_url(given: str | None) -> str:
    """The URL of the database to use: `--database`, else DATABASE_URL, else the private server that runs near here.

    A private server stays up at least until this process ends. Raises `Failure` when there is none of them.
    """
    from wakelog.postgres.connect import database_url
    from wakelog.postgres.embedded import EmbeddedPostgres

    if is_named(given):
        return database_url(given)
    folder = private_folder()
    if folder is None:
        raise Failure(
            "expected a database, found no --database, no DATABASE_URL and no .wakelog/ here or above; "
            "give one of them, or start a private one here",
            ExitCode.BAD_INPUT,
            next_command="type: wakelog up",
        )
    private = EmbeddedPostgres(folder)
    if not private.running:
        raise Failure(
            f"expected the private database in {folder} to run, found that it does not; start it",
            ExitCode.NO_DATABASE,
            next_command="type: wakelog up",
        )
    return private.start()


@contextmanager
def connected(given: str | None, *, schema: bool = True) -> "Generator[Connection[Any]]":
    """A connection to the database to use, in autocommit, whose schema is the one this code knows.

    `schema=False` leaves that last part to the caller.
    """
    from wakelog.postgres.connect import connect
    from wakelog.postgres.schema import require_current

    with connect(find_url(given), autocommit=True, application_name="wakelog") as connection:
        if schema:
            require_current(connection)
        yield connection


def rows(
    connection: "Connection[Any]", query: LiteralString, parameters: _Parameters | None = None
) -> list[dict[str, Any]]:
    """All rows of a query, by column name."""
    from psycopg.rows import dict_row

    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, parameters).fetchall()


def value(connection: "Connection[Any]", query: LiteralString, parameters: _Parameters | None = None) -> Any:
    """The one value a query answers with; None where it answers with no row."""
    with connection.cursor() as cursor:
        row = cursor.execute(query, parameters).fetchone()
    return row[0] if row else None


def sequence_if_allowed(connection: "Connection[Any]") -> None:
    """Give what has just been committed its positions, where nobody else does; quietly nothing for a mere reader.

    What has been committed stays so where the sequencer refuses, as before a rebase: that is said and no failure.
    """
    import psycopg

    from wakelog.errors import SequencerRefused, translate

    try:
        connection.execute("select wakelog.sequence()")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
        pass
    except psycopg.Error as error:
        refusal = translate(error)
        if not isinstance(refusal, SequencerRefused):
            raise
        click.echo(f"wakelog: no event gets its position: {' '.join(str(refusal).split())}", err=True)


def correlation_of(connection: "Connection[Any]", workflow: str) -> str:
    """The correlation of a workflow that is named by it, or by the id of any of its events."""
    try:
        event_id = UUID(workflow)
    except ValueError:
        return workflow
    of_event = value(
        connection,
        "select coalesce(correlation_id, id::text) from wakelog.events where id = %(id)s",
        {"id": event_id},
    )
    return of_event or workflow


def require_agent(connection: "Connection[Any]", name: str) -> None:
    """Raises `UnknownAgent` where there is no agent of that name."""
    from wakelog.errors import UnknownAgent

    if value(connection, "select true from wakelog.agents where name = %(name)s", {"name": name}) is None:
        raise UnknownAgent(f'there is no agent "{name}"', hint="See: wakelog agents list", agent=name)
