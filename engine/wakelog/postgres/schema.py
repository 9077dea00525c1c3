"""The schema of a database: made, upgraded, and compared with what this code expects."""

import io
import re
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import tuple_row

from wakelog.errors import SchemaMismatch, WakelogError
from wakelog.postgres.connect import connect
from wakelog.postgres.sources import (
    fingerprint,
    migrations_folder,
    replaceable_sql,
    sql_folder,
    tables_sql,
)

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = [
    "SchemaStatus",
    "install",
    "migrations_folder",
    "replaceable_sql",
    "require_current",
    "schema_status",
    "sql_folder",
    "status",
    "tables_sql",
    "upgrade",
    "upgrade_sql",
]

UPGRADE_LOCK = 2002873194
"""First key of the advisory lock under which upgrades take turns; the next after those of wakelog.lock_space."""

LOCK_TIMEOUT: LiteralString = "set local lock_timeout = '10s'"
"""An upgrade that waits for an open transaction makes every append wait behind it: so not for long."""

# As Alembic makes it.
_VERSION_TABLE: LiteralString = """
create table wakelog.alembic_version (
    version_num varchar(32) not null,
    constraint alembic_version_pkc primary key (version_num)
)
"""

# Alembic keeps what it is at in a module of its own.
_one_upgrade_per_process = threading.Lock()

_INSTALLED = re.compile(r"^Wakelog (\S+), functions ([0-9a-f]+)$")


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """What a database holds, beside what this code expects.

    `state` is "absent" without a schema, "current", "old" when an upgrade is due (of the tables, or of the functions
    alone), "newer" when the database was upgraded by a newer Wakelog.
    """

    current: str | None
    head: str
    functions_current: bool
    installed_by: str | None
    state: Literal["absent", "current", "old", "newer"]


def install(connection: psycopg.Connection[Any]) -> None:
    """Make today's schema in an empty database, straight from `sql/`, as the revisions would have it.

    Takes part in the caller's transaction, if one is open.
    """
    with connection.transaction():
        connection.execute(tables_sql().encode())
        connection.execute(_VERSION_TABLE)
        connection.execute("insert into wakelog.alembic_version values (%s)", [head_revision()])
        connection.execute(replay_sql().encode())


def upgrade(url: str, revision: str = "head") -> SchemaStatus:
    """Bring a database to today's schema, or up to a revision, in one transaction; return what it then is.

    Replaces functions that are not today's, where they are not a newer Wakelog's. Does nothing to one that is current,
    but for roles that are missing or have no rights. Two upgrades at once take turns.

    Raises `SchemaMismatch` for a database that is newer than this code, `DatabaseUnreachable`, and `WakelogError`
    when an open transaction holds a table for more than 10 seconds; each leaves the database as it was.
    """
    from alembic import command
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(url, autocommit=False, application_name="wakelog upgrade"),
        poolclass=NullPool,
    )
    with _one_upgrade_per_process, _patience(), engine.begin() as connection:
        config = _alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    with connect(url) as reading:
        return schema_status(reading)


def upgrade_sql(start: str | None = None) -> str:
    """The text `upgrade` would run on an empty database, or on one at revision `start`.

    For whoever may not, or will not, let a program change tables: `psql -1 -v ON_ERROR_STOP=1 -f`.
    """
    from alembic import command

    output = io.StringIO()
    with _one_upgrade_per_process:
        command.upgrade(_alembic_config(output), f"{start}:head" if start else "head", sql=True)
    return output.getvalue()


def status(url: str) -> SchemaStatus:
    """What a database holds, beside what this code expects. Raises `DatabaseUnreachable`."""
    with connect(url) as connection:
        return schema_status(connection)


def schema_status(connection: psycopg.Connection[Any]) -> SchemaStatus:
    """`status` over an open connection."""
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(
            "select to_regclass('wakelog.alembic_version'), obj_description(to_regnamespace('wakelog'))"
        )
        table, comment = cursor.fetchone() or (None, None)
        current: str | None = None
        if table is not None:
            found = cursor.execute("select version_num from wakelog.alembic_version").fetchone()
            current = found[0] if found else None
    installed = _INSTALLED.match(comment or "")
    return _compare(current, *(installed.groups() if installed else (None, None)))


def require_current(connection: psycopg.Connection[Any]) -> SchemaStatus:
    """Raise `SchemaMismatch`, with the next command to type, unless the tables are those this code expects.

    Functions of another build are no reason, since they serve workers of more than one: during a deployment a worker
    starts before or after the upgrade. What was found is returned; `functions_current` tells.
    """
    found = schema_status(connection)
    if found.current == found.head:
        return found
    if found.state == "newer":
        raise newer(found)
    if found.state == "absent":
        message = "expected a database with Wakelog's schema, found one without"
    else:
        message = f"expected the schema at revision {found.head}, found {found.current}"
    raise SchemaMismatch(message, hint="Run: wakelog db upgrade", expected=found.head, found=found.current)


def newer(found: SchemaStatus) -> SchemaMismatch:
    """The error of an older Wakelog before a database that a newer one has upgraded."""
    return SchemaMismatch(
        f"the database is newer than this Wakelog {version('wakelog')}: expected revision {found.head}, found "
        f"{found.current}, upgraded by Wakelog {found.installed_by or '(unknown)'}",
        hint=f"Install Wakelog {found.installed_by or 'of the newer version'} or later here; "
        "databases do not go back.",
        expected=found.head,
        found=found.current,
    )


def head_revision() -> str:
    """The newest revision this code knows."""
    head = _scripts().get_current_head()
    assert head is not None
    return head


def replay_sql() -> str:
    """Today's functions, triggers, views and grants, and the note on the schema that says which they are."""
    note = f"Wakelog {version('wakelog')}, functions {fingerprint()}"
    stamp = sql.SQL("comment on schema wakelog is {};\n").format(sql.Literal(note)).as_string(None)
    return f"{replaceable_sql()}\n{stamp}"


def _compare(current: str | None, installed_by: str | None, functions: str | None) -> SchemaStatus:
    head = head_revision()
    known = {revision.revision for revision in _scripts().walk_revisions()}
    functions_current = functions == fingerprint()
    state: Literal["absent", "current", "old", "newer"]
    if current is None:
        state = "absent"
    elif current not in known or (
        current == head and not functions_current and _is_later(installed_by, version("wakelog"))
    ):
        state = "newer"
    elif current == head and functions_current:
        state = "current"
    else:
        state = "old"
    return SchemaStatus(current, head, functions_current, installed_by, state)


def _is_later(one: str | None, other: str) -> bool:
    def numbers(of: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", of.split("+")[0])]

    return one is not None and numbers(one) > numbers(other)


def _alembic_config(output: io.StringIO | None = None) -> "Config":
    from alembic.config import Config

    config = Config(output_buffer=output) if output else Config()
    # Alembic reads the value as a ConfigParser does, where % begins an interpolation.
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    return config


def _scripts() -> Any:
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_alembic_config())


@contextmanager
def _patience() -> Generator[None]:
    try:
        yield
    except psycopg.errors.LockNotAvailable as error:
        raise WakelogError(
            "the upgrade waited 10 seconds for an open transaction, then let go so that appends need not wait: "
            f"{error.diag.message_primary or error}",
            hint="Find it with: select * from wakelog.horizon; end it, or try again in a quiet moment.",
        ) from None
