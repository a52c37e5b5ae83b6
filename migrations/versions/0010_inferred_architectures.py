"""The architecture of an uploaded model may be inferred from its weights."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("architecture", sa.Text()),
    ("num_classes", sa.Integer()),
    ("input_size", sa.Integer()),
)


def upgrade() -> None:
    for name, column_type in _COLUMNS:
        op.alter_column("models", name, existing_type=column_type, nullable=True)


def downgrade() -> None:
    models = sa.table("models", *(sa.column(name) for name, _ in _COLUMNS))
    for name, column_type in _COLUMNS:
        unknown = "" if name == "architecture" else 0
        op.execute(models.update().where(models.c[name].is_(None)).values({name: unknown}))
        op.alter_column("models", name, existing_type=column_type, nullable=False)
