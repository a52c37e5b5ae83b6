"""Columns, tables and stored documents get the field's names."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_COLUMNS = (
    ("jobs", "lane", "queue"),
    ("jobs", "losses", "lost_runs"),
    ("outbox", "lane", "queue"),
    ("turns", "lane", "queue"),
    ("turns", "taken_at", "last_claimed_at"),
    ("workers", "lane", "queue"),
    ("models", "normalisation", "normalization"),
    ("models", "licence", "license"),
    ("teacher_caches", "seconds", "fill_s"),
)
_CONSTRAINTS = (
    ("jobs", "ck_jobs_lane", "ck_jobs_queue"),
    ("project_turns", "pk_turns", "pk_project_turns"),
    ("project_turns", "fk_turns_project_id", "fk_project_turns_project_id"),
)


def upgrade() -> None:
    for table, old, new in _COLUMNS:
        op.alter_column(table, old, new_column_name=new)
    op.rename_table("turns", "project_turns")
    for table, old, new in _CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")


def downgrade() -> None:
    for table, old, new in _CONSTRAINTS:
        op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {new} TO {old}")
    op.rename_table("project_turns", "turns")
    for table, old, new in _COLUMNS:
        op.alter_column(table, new, new_column_name=old)
