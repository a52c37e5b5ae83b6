"""The exits of runs get the names of what happened.

Runs without inputs because the object store was down were `storage_retry`, and those with a missing or
damaged input `storage_unavailable`. They are `storage_unavailable` and `inputs_unreadable` now.
"""

import sqlalchemy as sa
from alembic import op

revision, down_revision = "0009", "0008"
branch_labels = depends_on = None


def upgrade() -> None:
    _rename_exits(
        {"storage_unavailable": "inputs_unreadable", "storage_retry": "storage_unavailable"}
    )
    _rename_reason("storage_retry", "storage_unavailable")


def downgrade() -> None:
    _rename_exits(
        {"storage_unavailable": "storage_retry", "inputs_unreadable": "storage_unavailable"}
    )
    _rename_reason("storage_unavailable", "storage_retry")


def _rename_exits(names: dict[str, str]) -> None:
    """In one statement, because one new name is another old one."""
    exit_column = sa.column("exit", sa.Text)
    runs = sa.table("runs", exit_column)
    new_exit = sa.case(names, value=exit_column)
    op.execute(sa.update(runs).where(exit_column.in_(names)).values(exit=new_exit))


def _rename_reason(old: str, new: str) -> None:
    """Only a job that is queued again has the exit of its run as a reason."""
    op.get_bind().execute(
        sa.text(
            "UPDATE events SET data = data || jsonb_build_object('reason', CAST(:new AS text)) "
            "WHERE type = 'state' AND data->>'reason' = :old"
        ),
        {"old": old, "new": new},
    )
