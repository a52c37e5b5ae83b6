"""Keyset pagination: pages ``{"data": […], "next_cursor": …}`` with signed cursors.

A cursor contains the position of the next page and a digest of the query's filters. It grants no
permission.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import MAXYEAR, MINYEAR
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

import orjson
import structlog
from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Select, Text, cast, select, tuple_
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http.problems import InvalidRequestError
from api.http.responses import json_response
from store.settings import settings

log = structlog.get_logger()
DEFAULT_LIMIT, MAX_LIMIT = 50, 200
_SIGNATURE_BYTES = 16

Row = TypeVar("Row", bound=Any)
Item = TypeVar("Item", bound=BaseModel)


class Page(BaseModel, Generic[Item]):
    """One page of a list. Only a null ``next_cursor`` marks the last page."""

    data: list[Item]
    next_cursor: str | None = Field(description="Cursor of the next page; null on the last page")
    unreadable: list[str] = Field(
        default_factory=list,
        description="Ids of rows of this page that have no JSON form; absent if there are none",
    )


class PageQuery:
    """The requested page of a list: a dependency of every list route."""

    def __init__(
        self,
        request: Request,
        limit: Annotated[
            int,
            Query(ge=1, description=f"Rows per page; values above {MAX_LIMIT} mean {MAX_LIMIT}"),
        ] = DEFAULT_LIMIT,
        cursor: Annotated[
            str | None,
            Query(description="`next_cursor` of the previous page, with the same filters"),
        ] = None,
    ) -> None:
        self.request = request
        self.size = min(limit, MAX_LIMIT)
        self.cursor = cursor

    def position(self, length: int) -> list[Any] | None:
        """The position, of ``length`` values, at which the page starts; None for the first page."""
        return None if self.cursor is None else decode_cursor(self.request, self.cursor, length)

    def next_cursor(self, position: list[Any]) -> str:
        """The cursor of the page that starts at ``position``."""
        return encode_cursor(self.request, position)


PageQueryDep = Annotated[PageQuery, Depends()]


def paginate(
    session: Session,
    query: Select[Row],
    serialize: Callable[[Row], Any],
    page_query: PageQuery,
    *,
    descending: bool = True,
    leading_column: str | None = None,
) -> Response:
    """A page of rows that have ``created_at`` and ``id``, by default the newest first.

    ``leading_column`` is a numeric column to sort by first, from its highest value to its lowest.
    """
    table = query.column_descriptions[0]["entity"]
    first = [-getattr(table, leading_column)] if leading_column else []
    keys = (*first, table.created_at, table.id)
    if (position := page_query.position(len(keys))) is not None:
        edge = tuple_(*position[:-2], cast(position[-2], table.created_at.type), position[-1])
        query = query.where(tuple_(*keys) < edge if descending else tuple_(*keys) > edge)
    order = [key.desc() if descending else key.asc() for key in keys]
    rows: Sequence[Row] = session.scalars(query.order_by(*order).limit(page_query.size + 1)).all()
    more = len(rows) > page_query.size
    rows = rows[: page_query.size]
    next_cursor = None
    if more:
        next_cursor = page_query.next_cursor(_position_of(session, rows[-1], leading_column))
    page = serialize_rows(rows, serialize)
    return json_response({"data": page.items, "next_cursor": next_cursor} | page.remark())


class SerializedRows(NamedTuple):
    """Rows as JSON, without those that have no JSON form."""

    items: list[Any]
    unreadable: list[str]
    """Ids of the other rows."""

    def remark(self) -> dict[str, list[str]]:
        """The field of a page that names the unreadable rows; empty if all rows are readable."""
        return {"unreadable": self.unreadable} if self.unreadable else {}


def serialize_rows(rows: Sequence[Row], serialize: Callable[[Row], Any]) -> SerializedRows:
    """Serialize rows that have an ``id``. A row that fails is logged and leaves the others."""
    result = SerializedRows([], [])
    for row in rows:
        try:
            result.items.append(serialize(row))
        except SQLAlchemyError:
            raise
        except Exception:  # one row that cannot be shown must not take the others with it
            log.exception("unreadable_row", table=row.__tablename__, id=row.id)
            result.unreadable.append(row.id)
    return result


def _position_of(session: Session, row: Any, leading_column: str | None) -> list[Any]:
    first = [-getattr(row, leading_column)] if leading_column else []
    time = row.created_at.isoformat()
    if row.created_at.year in (MINYEAR, MAXYEAR):  # perhaps a time that Python cannot represent
        table = type(row)
        time = session.scalar(select(table.created_at.cast(Text)).where(table.id == row.id)) or time
    return [*first, time, row.id]


def paginate_list(items: Sequence[dict[str, Any]], page_query: PageQuery) -> Response:
    """A page of a list in memory that does not change between requests."""
    (start,) = page_query.position(1) or [0]
    end = start + page_query.size
    next_cursor = page_query.next_cursor([end]) if end < len(items) else None
    return json_response({"data": items[start:end], "next_cursor": next_cursor})


def encode_cursor(request: Request, position: list[Any]) -> str:
    """The cursor of the page that starts at ``position`` in the list of this request."""
    text = orjson.dumps([_filters_digest(request), *position])
    return _base64url(_sign(text) + text)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode_cursor(request: Request, cursor: str, length: int) -> list[Any]:
    """The position, of ``length`` values, in a cursor of this list.

    Raises:
        InvalidRequestError: the cursor has no valid signature or belongs to other filters.
    """
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise bad_cursor_error() from None
    signature, text = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    # Base64 can spell the same bytes in several ways; only the canonical one is accepted.
    if _base64url(raw) != cursor or not hmac.compare_digest(signature, _sign(text)):
        raise bad_cursor_error()
    filters, *position = orjson.loads(text)
    if filters != _filters_digest(request) or len(position) != length:
        raise bad_cursor_error()
    return list(position)


def bad_cursor_error() -> InvalidRequestError:
    """The 422 of a cursor that does not belong to this list."""
    detail = "the cursor does not belong to this list and its filters; start without a cursor"
    return InvalidRequestError.of("?cursor", "bad_cursor", detail)


def _filters_digest(request: Request) -> str:
    parts = sorted(
        (key, value)
        for key, value in request.query_params.multi_items()
        if key not in ("cursor", "limit")
    )
    text = orjson.dumps([request.url.path, parts])
    return hashlib.sha256(text).hexdigest()[:12]


def _sign(text: bytes) -> bytes:
    secret = settings().secret_key.get_secret_value().encode()
    return hmac.digest(secret, text, "sha256")[:_SIGNATURE_BYTES]
