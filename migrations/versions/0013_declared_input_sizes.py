"""Models say whether their input size was declared.

A model without a declared input size has a warning since its upload, which the migration reads.
"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0013", "0012"
branch_labels = depends_on = None

_READ_WARNINGS = """
UPDATE models SET input_size_declared = false WHERE EXISTS (
  SELECT FROM jsonb_array_elements_text(warnings) AS warning
  WHERE warning LIKE 'input_size is missing:%')
"""


def upgrade() -> None:
    declared = sa.Column(
        "input_size_declared", sa.Boolean(), server_default=sa.true(), nullable=False
    )
    op.add_column("models", declared)
    op.alter_column("models", "input_size_declared", server_default=None)
    op.execute(_READ_WARNINGS)


def downgrade() -> None:
    op.drop_column("models", "input_size_declared")
