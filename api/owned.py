"""Rows by id, within the caller's project: what is another's is not there."""

from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.problems import NotFound
from store.accounts import Principal
from store.ids import Prefix, is_id
from store.tables import Artifact, Dataset, Job, Model, Upload

Row = TypeVar("Row", Artifact, Dataset, Job, Model, Upload)
_KINDS: dict[type, tuple[Prefix, str]] = {
    Artifact: ("art", "artifact"),
    Dataset: ("ds", "data set"),
    Job: ("job", "job"),
    Model: ("mdl", "model"),
    Upload: ("upl", "upload"),
}
LANE = "train"  # jobs that users posted; ingestion and verification are not shown


def find(
    session: Session, table: type[Row], row_id: str, caller: Principal, *, keep: bool = False
) -> Row | None:
    """The row, or None if there is none of this project. To be kept: not deleted meanwhile."""
    prefix, _ = _KINDS[table]
    if not is_id(row_id, prefix):
        return None
    query = select(table).where(table.id == row_id, table.project_id == caller.project_id)
    if table is Job:
        query = query.where(Job.lane == LANE)
    if keep:
        query = query.with_for_update(read=True, key_share=True)
    return session.scalars(query).one_or_none()


def get(
    session: Session, table: type[Row], row_id: str, caller: Principal, *, lock: bool = False
) -> Row:
    """The row; a 404 problem for a malformed id, an unknown one, and another project's."""
    row = find(session, table, row_id, caller)
    if row is None:
        raise NotFound(_KINDS[table][1])
    if lock:
        session.refresh(row, with_for_update=True)
    return row
