"""What revisions and Alembic's env.py share: how SQL text reaches the database, and what every upgrade does."""

from pathlib import Path

from alembic.runtime.migration import MigrationContext

from wakelog.postgres.schema import (
    LOCK_TIMEOUT,
    UPGRADE_LOCK,
    drop_views_sql,
    head_revision,
    newer,
    replay_sql,
    schema_status,
)


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
        assert context.connection is not None
        driver = context.connection.connection.driver_connection
        assert driver is not None
        driver.execute(text.encode())


def prepare(context: MigrationContext) -> bool:
    """Take the turn, and say whether there is anything to do. Raises `SchemaMismatch` for a newer database."""
    if context.as_sql:
        context.impl.static_output("-- Run with: psql -1 -v ON_ERROR_STOP=1 -f")
    send(f"select pg_advisory_xact_lock({UPGRADE_LOCK}, 0);\n{LOCK_TIMEOUT};", context)
    if not context.as_sql:
        assert context.connection is not None
        driver = context.connection.connection.driver_connection
        assert driver is not None
        found = schema_status(driver)
        if found.state == "newer":
            raise newer(found)
        if found.state == "current":
            return False
    send("create schema if not exists wakelog;", context)
    send(drop_views_sql(), context)
    return True


def finish(context: MigrationContext) -> None:
    """Replay what is replaceable, once the tables are today's; it would not fit older ones."""
    if context.as_sql or context.get_current_heads() == (head_revision(),):
        send(replay_sql(), context)
