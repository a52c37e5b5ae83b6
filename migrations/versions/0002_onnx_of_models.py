"""A model's ONNX file, made when somebody first asks the model something."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("onnx_object_key", sa.Text()))
    op.add_column("models", sa.Column("onnx_sha256", sa.Text()))
    op.add_column("models", sa.Column("onnx_size_bytes", sa.BigInteger()))
    op.add_column("models", sa.Column("onnx_error", postgresql.JSONB(astext_type=sa.Text())))
    op.create_index("ix_models_onnx_object_key", "models", ["onnx_object_key"])
    op.create_index("ix_jobs_model_id", "jobs", ["model_id"])
