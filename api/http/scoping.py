"""Rows by id, within the caller's project: what is another's is not there."""

from typing import Literal, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.http.problems import NotFoundError
from store.access.credentials import Principal
from store.ids import Prefix, is_id
from store.tables import Artifact, Checkpoint, Dataset, Job, Model, TeacherCache, Upload

Row = TypeVar("Row", Artifact, Checkpoint, Dataset, Job, Model, TeacherCache, Upload)
_RESOURCES: dict[type, tuple[Prefix, str]] = {
    Artifact: ("art", "artifact"),
    Checkpoint: ("ckp", "checkpoint"),
    Dataset: ("ds", "data set"),
    Job: ("job", "job"),
    Model: ("mdl", "model"),
    TeacherCache: ("tch", "teacher cache"),
    Upload: ("upl", "upload"),
}
RowLock = Literal["share", "update"]
TRAIN_QUEUE = "train"  # jobs that users posted; ingestion and verification are not shown


def get_or_none(
    session: Session,
    table: type[Row],
    row_id: str,
    caller: Principal,
    *,
    lock: RowLock | None = None,
) -> Row | None:
    """The row, or None if there is none of this project; held against deletion or any change."""
    prefix, _ = _RESOURCES[table]
    if not is_id(row_id, prefix):
        return None
    query = select(table).where(table.id == row_id, table.project_id == caller.project_id)
    if table is Job:
        query = query.where(Job.queue == TRAIN_QUEUE)
    if lock == "share":
        query = query.with_for_update(read=True, key_share=True)
    elif lock == "update":
        query = query.with_for_update(of=table)
    return session.scalars(query).one_or_none()


def get_or_404(
    session: Session, table: type[Row], row_id: str, caller: Principal, *, lock: bool = False
) -> Row:
    """The row; a 404 problem for a malformed id, an unknown one, and another project's."""
    row = get_or_none(session, table, row_id, caller, lock="update" if lock else None)
    if row is None:
        raise NotFoundError(_RESOURCES[table][1])
    return row
