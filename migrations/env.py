"""How Alembic runs the revisions: over the connection `wakelog db upgrade` gives it, over DATABASE_URL, or offline."""

from alembic import command, context
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from wakelog.postgres.connect import connect, database_url
from wakelog.postgres.migration import finish, prepare

_options = {"version_table": "alembic_version", "version_table_schema": "wakelog"}


def is_upgrade() -> bool:
    """Whether this is an upgrade, or one of the commands that only look (alembic current, history, ...)."""
    chosen = context.config.cmd_opts
    return chosen is None or chosen.cmd[0] is command.upgrade


def run() -> None:
    migration = context.get_context()
    if not is_upgrade():
        context.run_migrations()
    elif prepare(migration):
        context.run_migrations()
        finish(migration)


def run_over(connection: Connection) -> None:
    context.configure(connection=connection, **_options)
    run()


if context.is_offline_mode():
    context.configure(dialect_name="postgresql", **_options)
    run()
elif "connection" in context.config.attributes:
    run_over(context.config.attributes["connection"])
else:
    engine = create_engine(
        "postgresql+psycopg://",
        creator=lambda: connect(database_url(), autocommit=False, application_name="wakelog upgrade"),
        poolclass=NullPool,
    )
    with engine.begin() as connection:
        run_over(connection)
