"""Projects take turns, with indexes to find whose is next; which events of a run are stored."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

QUEUED = sa.text("state = 'queued'")
LIVE = sa.text("state IN ('starting', 'running', 'pausing', 'cancelling')")


def upgrade() -> None:
    op.create_table(
        "turns",
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("taken_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name=op.f("fk_turns_project_id")),
        sa.PrimaryKeyConstraint("project_id", "lane", name=op.f("pk_turns")),
    )
    seq = sa.Column("engine_seq", sa.BigInteger(), server_default="0", nullable=False)
    op.add_column("runs", seq)
    op.drop_index("ix_jobs_queue", table_name="jobs")
    columns = ["lane", "project_id", sa.literal_column("priority DESC"), "created_at"]
    op.create_index("ix_jobs_queue", "jobs", columns, postgresql_where=QUEUED)
    op.create_index("ix_jobs_live", "jobs", ["lane", "project_id"], postgresql_where=LIVE)


def downgrade() -> None:
    op.drop_index("ix_jobs_live", table_name="jobs")
    op.drop_index("ix_jobs_queue", table_name="jobs")
    columns = ["lane", sa.literal_column("priority DESC"), "created_at"]
    op.create_index("ix_jobs_queue", "jobs", columns, postgresql_where=QUEUED)
    op.drop_column("runs", "engine_seq")
    op.drop_table("turns")
