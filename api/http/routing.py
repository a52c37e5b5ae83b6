"""Routers and routes: authentication first, then a strict query and a strict, bounded JSON body."""

import dataclasses
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio.to_thread
import orjson
from fastapi import APIRouter, Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, get_request_handler
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.responses import Response
from starlette.types import Receive, Scope
from typing_extensions import override

from api.http import auth
from api.http.problems import (
    PROBLEM_RESPONSES,
    InvalidRequestError,
    ProblemError,
    validation_problem,
)
from api.http.query import find_query_issues, query_parameters
from kdcore.schema.validation.errors import ValidationIssue
from store.access.credentials import Principal
from store.database import transaction
from store.settings import settings

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
MAX_DISCARDED_BYTES = 256 * 2**20
"""Bytes of an oversized body that are read before the 413: many clients read no response while they
send, and an endless body must not hold the connection forever."""
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


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
        """The body as JSON. ``request.state.parsed_body`` holds it for the idempotency digest.

        A byte order mark is skipped: PowerShell and some editors write one.

        Raises:
            JSONDecodeError: the body is not JSON in UTF-8.
        """
        if not hasattr(self, "_json"):
            body = await self.body()
            if body.startswith(_UTF16_MARKS):
                raise orjson.JSONDecodeError("the text is in UTF-16: send UTF-8", "", 0)
            self._json = orjson.loads(body.removeprefix(_BYTE_ORDER_MARK))
            self.state.parsed_body = self._json
        return self._json


def body_too_large(limit: int) -> ProblemError:
    """The 413 of a body that is larger than ``limit`` bytes."""
    return ProblemError(
        413,
        "body_too_large",
        f"the body may have at most {limit} bytes; send data and weights through /v1/uploads",
    )


class StrictQueryRoute(APIRoute):
    """A route that refuses unknown query parameters."""

    @override
    def get_route_handler(self) -> Handler:
        """The endpoint's handler, behind the check of the query."""
        original, parameters = super().get_route_handler(), query_parameters(self.dependant)

        async def handle(request: Request) -> Response:
            if issues := find_query_issues(request, parameters):
                raise InvalidRequestError(issues)
            return await original(request)

        return handle


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

    @override
    def get_route_handler(self) -> Handler:
        """The endpoint's handler, behind authentication, the check of the query, strict JSON."""
        original, parameters = super().get_route_handler(), query_parameters(self.dependant)
        validate = self._validating_handler()

        async def handle(request: Request) -> Response:
            request.state.caller = await auth.authenticate(request)
            query_issues = find_query_issues(request, parameters)
            strict = StrictRequest(request.scope, request.receive, self.body_limit())
            if self.body_field is not None:
                await strict.body()  # FastAPI would return 400 for every error of the reader
            try:
                response = await (validate if query_issues else original)(strict)
            except RequestValidationError as error:
                caller = request.state.caller
                # In a thread, because it queries the database and a body may have many issues.
                problem = await anyio.to_thread.run_sync(self._validation_problem, error, caller)
                raise _add_issues(problem, query_issues) from None
            except InvalidRequestError as error:
                raise _add_issues(error, query_issues) from None
            if query_issues:
                raise InvalidRequestError(query_issues)
            return response

        return handle

    def _validating_handler(self) -> Handler:
        """A handler that validates like the endpoint's and does nothing else.

        The issues of a wrong query and those of all other fields then come in one response.
        """
        dependant = dataclasses.replace(self.dependant, call=_do_nothing)
        return get_request_handler(
            dependant, self.body_field, embed_body_fields=self._embed_body_fields
        )

    def _validation_problem(self, error: RequestValidationError, caller: Principal) -> ProblemError:
        problem = validation_problem(error, self._body_model)
        if not isinstance(problem, InvalidRequestError):
            return problem
        with transaction() as session:
            extra = self.extra_issues(session, error.body, caller)
        return InvalidRequestError([*problem.issues, *extra])


async def _do_nothing(**_: object) -> Response:
    return Response()


def _add_issues(problem: ProblemError, issues: Sequence[ValidationIssue]) -> ProblemError:
    """The 422 of a body or parameter, with the issues of the query; any other problem as it is."""
    if not issues or problem.status != 422:
        return problem
    if isinstance(problem, InvalidRequestError):
        return InvalidRequestError([*problem.issues, *issues])
    missing_body = ValidationIssue(pointer="", code=problem.code, detail=problem.detail)
    return InvalidRequestError([missing_body, *issues])


def v1_router(prefix: str, tag: str, route_class: type[V1Route] = V1Route) -> APIRouter:
    """The router of a resource: its paths begin with ``/v1`` and ``prefix``; ``tag`` groups it."""
    return APIRouter(
        prefix=f"/v1{prefix}",
        tags=[tag],
        route_class=route_class,
        dependencies=[Depends(auth.bearer)],
        responses=PROBLEM_RESPONSES,
    )
