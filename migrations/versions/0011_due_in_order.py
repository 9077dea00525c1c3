"""What is due is claimed in its order, however much of it there is."""

from alembic import op

from wakelog.postgres.migration import run_sql_beside

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_beside(__file__, op.get_context())


def downgrade() -> None:
    raise NotImplementedError("databases do not go back: restore a backup")
