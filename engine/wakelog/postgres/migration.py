"""What revisions and Alembic's env.py share: how SQL text reaches the database, and what every upgrade does."""

from pathlib import Path
from typing import Any, cast

from alembic.runtime.migration import MigrationContext
from psycopg import Connection

from wakelog.postgres.roles import roles_status
from wakelog.postgres.schema import (
    LOCK_TIMEOUT,
    UPGRADE_LOCK,
    head_revision,
    newer,
    replay_sql,
    schema_status,
)
from wakelog.postgres.sources import grants_sql, migrations_folder, roles_sql
from wakelog.postgres.taking import take_sql


def run_sql_beside(revision: str, context: MigrationContext) -> None:
    """Run the frozen text beside a revision's file: 0001_first.sql for 0001_first.py."""
    send(Path(revision).with_suffix(".sql").read_text(), context)


def send(text: str, context: MigrationContext) -> None:
    """Run any number of statements as they stand, or print them in offline mode.

    SQLAlchemy is kept out of it: it would read % and :word as parameters.
    """
    if context.as_sql:
        context.impl.static_output(text)
    else:
        _driver(context).execute(text.encode())


def prepare(context: MigrationContext) -> bool:
    """Take the turn and the locks, and say whether there is anything to do.

    Where there is not, roles that have come since then get their rights all the same. Raises `SchemaMismatch` for a
    newer database.
    """
    if context.as_sql:
        context.impl.static_output("-- Run with: psql -1 -v ON_ERROR_STOP=1 -f")
    send(f"select pg_advisory_xact_lock({UPGRADE_LOCK}, 0);\n{LOCK_TIMEOUT};", context)
    tables_change = True
    if not context.as_sql:
        driver = _driver(context)
        found = schema_status(driver)
        if found.state == "newer":
            raise newer(found)
        if found.state == "current":
            _mend(driver)
            return False
        tables_change = found.current != found.head
    send(_beside_the_revisions("drop_set_aside.sql"), context)
    send(roles_sql(), context)
    send("create schema if not exists wakelog;", context)
    send(take_sql(tables_change=tables_change), context)
    if tables_change:
        send(_beside_the_revisions("set_aside.sql"), context)
    return True


def finish(context: MigrationContext) -> None:
    """Replay what is replaceable, once the tables are today's; it would not fit older ones."""
    if context.as_sql or context.get_current_heads() == (head_revision(),):
        send(replay_sql(), context)


def _mend(driver: Connection[Any]) -> None:
    """In a schema that is current: make and entitle the roles that are not, and let go of what was set aside."""
    driver.execute(_beside_the_revisions("drop_set_aside.sql").encode())
    if roles_status(driver).missing:
        driver.execute(roles_sql().encode())
    if roles_status(driver).without_rights:
        driver.execute(grants_sql().encode())


def _beside_the_revisions(name: str) -> str:
    return (migrations_folder() / name).read_text()


def _driver(context: MigrationContext) -> Connection[Any]:
    assert context.connection is not None
    driver = context.connection.connection.driver_connection
    assert driver is not None
    return cast("Connection[Any]", driver)
