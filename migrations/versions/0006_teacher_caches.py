"""Teachers' answers that jobs share."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_TEXTS = ("key", "model_id", "dataset_id", "teacher_sha256", "dataset_sha256")


def upgrade() -> None:
    now = sa.text("now()")
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "teacher_caches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _TEXTS),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("augmentation", postgresql.JSONB(), nullable=False),
        sa.Column("view", sa.Integer(), nullable=False),
        sa.Column("num_samples", sa.BigInteger(), nullable=False),
        sa.Column("object_key", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("hits", sa.Integer(), nullable=False),
        sa.Column("created_at", moment, server_default=now, nullable=False),
        sa.Column("used_at", moment, server_default=now, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_teacher_caches")),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_teacher_caches_project_id")
        ),
        sa.UniqueConstraint("project_id", "key", name=op.f("uq_teacher_caches_project_id_key")),
    )
    for columns in (
        ["project_id", "created_at", "id"],
        ["project_id", "dataset_sha256", "teacher_sha256"],
        ["object_key"],
    ):
        name = op.f(f"ix_teacher_caches_{'_'.join(columns)}")
        op.create_index(name, "teacher_caches", columns)


def downgrade() -> None:
    op.drop_table("teacher_caches")
