"""The versions of types in declared families."""

from alembic import op

from wakelog.postgres.migration import run_sql_beside

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_beside(__file__, op.get_context())


def downgrade() -> None:
    raise NotImplementedError("databases do not go back: restore a backup")
