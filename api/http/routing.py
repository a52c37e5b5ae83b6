"""Routers and routes under /v1: authentication first, then a strict and bounded JSON body."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio.to_thread
import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.responses import Response
from starlette.types import Receive, Scope

from api.http import auth
from api.http.problems import (
    PROBLEM_RESPONSES,
    InvalidRequestError,
    ProblemError,
    validation_problem,
)
from kdcore.schema.validation.errors import ValidationIssue
from store.access.credentials import Principal
from store.database import transaction
from store.settings import settings

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
MAX_DISCARDED_BYTES = 256 * 2**20
"""Bytes of an oversized body that are read before the 413: many clients read no response while they
send, and an endless body must not hold the connection forever."""


class StrictRequest(Request):
    """Reads JSON with orjson, which rejects NaN, 1e999, lone surrogates and deep nesting."""

    def __init__(self, scope: Scope, receive: Receive, limit: int | None = None) -> None:
        super().__init__(scope, receive)
        self._limit = settings().max_body_bytes if limit is None else limit

    async def body(self) -> bytes:
        """The body.

        Raises:
            ProblemError: 413 if the body is larger than the limit of the route.
        """
        if not hasattr(self, "_body"):
            limit = self._limit
            chunks, size = [], 0
            async for chunk in self.stream():
                size += len(chunk)
                if size <= limit:
                    chunks.append(chunk)
                elif size > MAX_DISCARDED_BYTES:
                    break
            if size > limit:
                raise body_too_large(limit)
            self._body = b"".join(chunks)
        return self._body

    async def json(self) -> Any:
        """The body as JSON. ``request.state.parsed_body`` holds it for the idempotency digest."""
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
            self.state.parsed_body = self._json
        return self._json


def body_too_large(limit: int) -> ProblemError:
    """The 413 of a body that is larger than ``limit`` bytes."""
    return ProblemError(
        413,
        "body_too_large",
        f"the body may have at most {limit} bytes; send data and weights through /v1/uploads",
    )


def _reject_nul(request: Request) -> None:
    """Reject query parameters that contain NUL, which Postgres cannot store or compare."""
    issues = [
        ValidationIssue(pointer=f"?{name}", code="control_character", detail="must not contain NUL")
        for name, value in request.query_params.multi_items()
        if "\0" in value
    ]
    if issues:
        raise InvalidRequestError(issues)


class V1Route(APIRoute):
    """A route under /v1: it authenticates the request before it reads anything else of it."""

    def extra_issues(
        self, session: Session, body: object, caller: Principal
    ) -> list[ValidationIssue]:
        """Issues of the rows that an invalid ``body`` refers to, in addition to its fields'."""
        return []

    def body_limit(self) -> int:
        """The largest body in bytes that the route accepts."""
        return settings().max_body_bytes

    @property
    def _body_model(self) -> type[BaseModel] | None:
        """The type of the body; None for a route without one."""
        annotation = self.body_field.field_info.annotation if self.body_field else None
        return (
            annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel)
            else None
        )

    def get_route_handler(self) -> Handler:
        """The endpoint's handler, behind authentication and a strict JSON reader."""
        original = super().get_route_handler()

        async def handle(request: Request) -> Response:
            request.state.caller = await auth.authenticate(request)
            _reject_nul(request)
            strict = StrictRequest(request.scope, request.receive, self.body_limit())
            if self.body_field is not None:
                await strict.body()  # FastAPI would return 400 for every error of the reader
            try:
                return await original(strict)
            except RequestValidationError as error:
                caller = request.state.caller
                # In a thread, because it queries the database and a body may have many issues.
                raise await anyio.to_thread.run_sync(
                    self._validation_problem, error, caller
                ) from None

        return handle

    def _validation_problem(self, error: RequestValidationError, caller: Principal) -> ProblemError:
        problem = validation_problem(error, self._body_model)
        if not isinstance(problem, InvalidRequestError):
            return problem
        with transaction() as session:
            extra = self.extra_issues(session, error.body, caller)
        return InvalidRequestError([*problem.issues, *extra])


def v1_router(prefix: str, tag: str, route_class: type[V1Route] = V1Route) -> APIRouter:
    """The router of a resource: its paths begin with ``/v1`` and ``prefix``; ``tag`` groups it."""
    return APIRouter(
        prefix=f"/v1{prefix}",
        tags=[tag],
        route_class=route_class,
        dependencies=[Depends(auth.bearer)],
        responses=PROBLEM_RESPONSES,
    )
