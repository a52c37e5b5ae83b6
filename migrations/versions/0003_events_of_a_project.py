"""Events of a project by time: the stream behind a table of jobs."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        op.f("ix_events_project_id_time"), "events", ["project_id", "time"], unique=False
    )


def downgrade() -> None:
    op.drop_index(op.f("ix_events_project_id_time"), table_name="events")
