"""Data sets say what was read of their upload; errors count their items.

An error held at most 1,000 items and, as one more item, the number of the others. That number moves to
``num_items``. The JSON value null is no error: a retried job has it.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_COUNT_ITEMS = """
UPDATE {table} SET rev = rev + 1, error = error || CASE
  WHEN error -> 'items' -> -1 ->> 'name' = '…' THEN jsonb_build_object(
    'items', (error -> 'items') - -1,
    'num_items', jsonb_array_length(error -> 'items') - 1
      + coalesce(substring(error -> 'items' -> -1 ->> 'detail' FROM '[0-9]+')::int, 0))
  ELSE jsonb_build_object('num_items', jsonb_array_length(coalesce(error -> 'items', '[]')))
END
WHERE jsonb_typeof(error) = 'object'
"""


def upgrade() -> None:
    for name, default in (("on_bad_image", "refuse"), ("on_duplicates", "warn")):
        column = sa.Column(name, sa.Text(), server_default=default, nullable=False)
        op.add_column("datasets", column)
        op.alter_column("datasets", name, server_default=None)
    op.add_column("datasets", sa.Column("ingest_summary", postgresql.JSONB(), nullable=True))
    op.add_column("models", sa.Column("sixteen_bit_range", sa.Integer(), nullable=True))
    for table in ("datasets", "models", "jobs"):
        op.execute(_COUNT_ITEMS.format(table=table))
    # Responses have new fields, so their ETags change.
    for table in ("datasets", "models"):
        op.execute(
            f"UPDATE {table} SET rev = rev + 1 "  # noqa: S608 - our names
            "WHERE jsonb_typeof(error) IS DISTINCT FROM 'object'"
        )


def downgrade() -> None:
    for table in ("datasets", "models", "jobs"):
        op.execute(
            f"UPDATE {table} SET error = error - 'num_items' "  # noqa: S608 - our names
            "WHERE jsonb_typeof(error) = 'object'"
        )
    op.drop_column("models", "sixteen_bit_range")
    for name in ("ingest_summary", "on_duplicates", "on_bad_image"):
        op.drop_column("datasets", name)
