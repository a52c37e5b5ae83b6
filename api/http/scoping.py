"""Look up rows by id within the caller's project. A row of another project is a 404."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

from sqlalchemy import ColumnElement, Select, bindparam, select
from sqlalchemy.orm import Session
from sqlalchemy.sql.base import ExecutableOption
from starlette.responses import Response

from api.http.pagination import PageQuery, paginate
from api.http.problems import NotFoundError
from store.access.credentials import Principal
from store.database import read_session
from store.ids import is_id
from store.tables import Base, Job

Row = TypeVar("Row", bound=Base)
"""A row with an ``id`` and a ``project_id``."""
RowLock = Literal["share", "update"]
TRAIN_QUEUE = "train"
"""The queue of jobs that users posted. The API hides those of the other queue, ``prepare``."""


def get_or_none(
    session: Session,
    table: type[Row],
    row_id: str,
    caller: Principal,
    *,
    lock: RowLock | None = None,
    options: Sequence[ExecutableOption] = (),
) -> Row | None:
    """The row, or None if the project has no such row.

    ``lock`` holds the row until the transaction ends: ``share`` against deletion, ``update``
    against every change. ``options`` are SQLAlchemy's loader options, the same objects at each
    call.
    """
    if not is_id(row_id):
        return None
    query = _select_by_id(table, lock, tuple(options))
    return session.scalars(query, {"row_id": row_id, "project_id": caller.project_id}).one_or_none()


@functools.cache
def _select_by_id(
    table: type[Row], lock: RowLock | None, options: tuple[ExecutableOption, ...]
) -> Select[Row]:
    # Cached, because SQLAlchemy keeps the compiled form with the statement: building and hashing
    # a new one for each request takes longer than its execution.
    columns = table.__table__.c
    query = (
        select(table)
        .where(columns.id == bindparam("row_id"), columns.project_id == bindparam("project_id"))
        .options(*options)
    )
    if table is Job:
        query = query.where(Job.queue == TRAIN_QUEUE)
    if lock == "share":
        query = query.with_for_update(read=True, key_share=True)
    elif lock == "update":
        query = query.with_for_update(of=table)
    return query


def get_or_404(
    session: Session,
    table: type[Row],
    row_id: str,
    caller: Principal,
    *,
    lock: bool = False,
    options: Sequence[ExecutableOption] = (),
) -> Row:
    """The row, optionally locked for an update, and loaded with SQLAlchemy's ``options``.

    Raises:
        NotFoundError: the id is malformed, unknown or of another project.
    """
    row = get_or_none(
        session, table, row_id, caller, lock="update" if lock else None, options=options
    )
    if row is None:
        raise NotFoundError(_noun(table))
    return row


def list_rows(
    table: type[Row],
    caller: Principal,
    page_query: PageQuery,
    serialize: Callable[[Row], Any],
    *conditions: ColumnElement[bool],
) -> Response:
    """A page of the project's rows that meet the conditions, the newest first.

    The table needs an index on ``project_id``, ``created_at`` and ``id``.
    """
    query = select(table).where(table.__table__.c.project_id == caller.project_id, *conditions)
    with read_session() as session:
        return paginate(session, query, serialize, page_query)


def _noun(table: type[Base]) -> str:
    """The resource in words: ``teacher cache`` for the table ``teacher_caches``."""
    name: str = table.__tablename__
    return name.removesuffix("s").replace("dataset", "data set").replace("_", " ")
