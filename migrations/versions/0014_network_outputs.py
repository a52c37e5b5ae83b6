"""Models from a file that defines the network list its outputs."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision, down_revision = "0014", "0013"
branch_labels = depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("outputs", postgresql.JSONB(), nullable=True))
    # Responses have a new field, so their ETags change.
    op.execute("UPDATE models SET rev = rev + 1")


def downgrade() -> None:
    op.drop_column("models", "outputs")
