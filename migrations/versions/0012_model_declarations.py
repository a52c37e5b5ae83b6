"""Models say whether their normalization was declared, and which accuracy was.

A model without a declared normalization has a warning since its upload, which the migration reads.
"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0012", "0011"
branch_labels = depends_on = None

_READ_WARNINGS = """
UPDATE models SET normalization_declared = false WHERE EXISTS (
  SELECT FROM jsonb_array_elements_text(warnings) AS warning
  WHERE warning LIKE 'normalization is missing:%')
"""


def upgrade() -> None:
    declared = sa.Column(
        "normalization_declared", sa.Boolean(), server_default=sa.true(), nullable=False
    )
    op.add_column("models", declared)
    op.alter_column("models", "normalization_declared", server_default=None)
    op.add_column("models", sa.Column("reported_top1", sa.Float(), nullable=True))
    op.execute(_READ_WARNINGS)
    # Responses have a new field, so their ETags change.
    op.execute("UPDATE models SET rev = rev + 1")


def downgrade() -> None:
    op.drop_column("models", "reported_top1")
    op.drop_column("models", "normalization_declared")
