"""Lists: ``{"data": […], "next_cursor": …}``, by keyset, with a signed cursor.

A cursor holds where the next page begins and a digest of the filters it was made for; it carries no
right.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import Depends, Query, Request
from pydantic import BaseModel, Field
from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http.problems import Invalid
from api.http.responses import reply
from kdcore.schema.validation.errors import Fault
from store.settings import settings

DEFAULT, MOST = 50, 200
_SIGNATURE_BYTES = 16

Row = TypeVar("Row", bound=Any)


class Page(BaseModel):
    """One page of a list; the end is told only by a null cursor."""

    data: list[Any]
    next_cursor: str | None = Field(description="Where the next page begins; null at the end")


class Asked:
    """Which page of a list is asked for: a dependency of every list route."""

    def __init__(
        self,
        request: Request,
        limit: Annotated[
            int, Query(ge=1, description=f"At most {MOST}; more is taken as {MOST}")
        ] = DEFAULT,
        cursor: Annotated[
            str | None, Query(description="`next_cursor` of the page before, with the same filters")
        ] = None,
    ) -> None:
        self.request = request
        self.size = min(limit, MOST)
        self.cursor = cursor

    def place(self, length: int) -> list[Any] | None:
        """Where the page begins; None for the first."""
        return None if self.cursor is None else decode(self.request, self.cursor, length)

    def next(self, place: list[Any]) -> str:
        """The cursor of the page that begins there."""
        return encode(self.request, place)


PageAsked = Annotated[Asked, Depends()]


def page(
    session: Session,
    query: Select[Row],
    show: Callable[[Row], dict[str, Any]],
    asked: Asked,
    *,
    descending: bool = True,
    highest: str | None = None,
) -> Response:
    """A page of rows that have ``created_at`` and ``id``, by default the newest first.

    ``highest`` names a numeric column that goes before both: its highest value comes first.
    """
    table = query.column_descriptions[0]["entity"]
    first = [-getattr(table, highest)] if highest else []
    keys = (*first, table.created_at, table.id)
    if (place := asked.place(len(keys))) is not None:
        edge = tuple_(*place[:-2], datetime.fromisoformat(place[-2]), place[-1])
        query = query.where(tuple_(*keys) < edge if descending else tuple_(*keys) > edge)
    order = [key.desc() if descending else key.asc() for key in keys]
    rows: Sequence[Row] = session.scalars(query.order_by(*order).limit(asked.size + 1)).all()
    more = len(rows) > asked.size
    rows = rows[: asked.size]
    next_cursor = asked.next(_place(rows[-1], highest)) if more else None
    return reply({"data": [show(row) for row in rows], "next_cursor": next_cursor})


def _place(row: Any, highest: str | None) -> list[Any]:
    first = [-getattr(row, highest)] if highest else []
    return [*first, row.created_at.isoformat(), row.id]


def page_of(items: Sequence[dict[str, Any]], asked: Asked) -> Response:
    """A page of a list that is whole in memory and does not change."""
    (start,) = asked.place(1) or [0]
    end = start + asked.size
    next_cursor = asked.next([end]) if end < len(items) else None
    return reply({"data": items[start:end], "next_cursor": next_cursor})


def encode(request: Request, place: list[Any]) -> str:
    """A cursor for the place at which the next page of this very list begins."""
    text = orjson.dumps([_filters(request), *place])
    return _spelled(_sign(text) + text)


def _spelled(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def decode(request: Request, cursor: str, length: int) -> list[Any]:
    """The place in a cursor of ours; a 422 for any other, and for one of other filters."""
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise bad_cursor() from None
    signature, text = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    # Base 64 has several spellings of the same bytes; only ours is a cursor.
    if _spelled(raw) != cursor or not hmac.compare_digest(signature, _sign(text)):
        raise bad_cursor()
    filters, *place = orjson.loads(text)
    if filters != _filters(request) or len(place) != length:
        raise bad_cursor()
    return list(place)


def bad_cursor() -> Invalid:
    """The 422 of a cursor that is not for this list."""
    detail = "is not a cursor of this list with these filters; start again without it"
    return Invalid([Fault(pointer="?cursor", code="bad_cursor", detail=detail)])


def _filters(request: Request) -> str:
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
