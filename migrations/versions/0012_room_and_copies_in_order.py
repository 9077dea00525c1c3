"""Room is taken from where the last was taken, and the copy of one event is looked up."""

from alembic import op

from wakelog.postgres.migration import run_sql_beside

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_sql_beside(__file__, op.get_context())


def downgrade() -> None:
    raise NotImplementedError("databases do not go back: restore a backup")
