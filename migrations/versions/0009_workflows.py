"""Workflows that are forked, and rehearsals."""

from alembic import op

from wakelog.postgres.migration import run_sql_beside

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_beside(__file__, op.get_context())


def downgrade() -> None:
    raise NotImplementedError("databases do not go back: restore a backup")
