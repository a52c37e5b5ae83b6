"""How bodies are read: strict JSON, a limit that is kept while reading, authentication first."""

from collections.abc import Callable, Coroutine
from typing import Any

import anyio.to_thread
import orjson
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.responses import Response
from starlette.types import Receive, Scope

from api.http import auth
from api.http.problems import InvalidRequestError, ProblemError, validation_problem
from kdcore.schema.validation.errors import ValidationIssue
from store.access.credentials import Principal
from store.database import transaction
from store.settings import settings

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
# What is too large is read and dropped before it is refused, because many clients do not look at an
# answer while they send; but not for ever.
MAX_DISCARDED_BYTES = 256 * 2**20


class StrictRequest(Request):
    """Reads JSON with orjson: no NaN, no 1e999, no lone surrogate, no bottomless nesting."""

    def __init__(self, scope: Scope, receive: Receive, limit: int | None = None) -> None:
        super().__init__(scope, receive)
        self._limit = settings().max_body_bytes if limit is None else limit

    async def body(self) -> bytes:
        """The whole body, refused as soon as it is larger than the route allows."""
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
        """The body as JSON; the same object is kept for the idempotency digest."""
        if not hasattr(self, "_json"):
            self._json = orjson.loads(await self.body())
            self.state.parsed_body = self._json
        return self._json


def body_too_large(limit: int) -> ProblemError:
    """The 413 of a body that is larger than this."""
    return ProblemError(
        413,
        "body_too_large",
        f"the body may have {limit} bytes here; data and weights go through /v1/uploads",
    )


def _reject_nul(request: Request) -> None:
    """Postgres knows no text with a NUL, and nothing that anybody looks for has one."""
    issues = [
        ValidationIssue(pointer=f"?{name}", code="control_character", detail="must not contain NUL")
        for name, value in request.query_params.multi_items()
        if "\0" in value
    ]
    if issues:
        raise InvalidRequestError(issues)


class V1Route(APIRoute):
    """Every route under /v1: who asks is known before anything of the request is looked at."""

    def extra_issues(
        self, session: Session, body: object, caller: Principal
    ) -> list[ValidationIssue]:
        """Faults to tell together with those of the fields: of what the body refers to."""
        return []

    def body_limit(self) -> int:
        """Bytes of a body that is read as a whole."""
        return settings().max_body_bytes

    @property
    def _body_model(self) -> type[BaseModel] | None:
        """What the body should be."""
        annotation = self.body_field.field_info.annotation if self.body_field else None
        return (
            annotation
            if isinstance(annotation, type) and issubclass(annotation, BaseModel)
            else None
        )

    def get_route_handler(self) -> Handler:
        """The route's handler behind authentication and a strict reader of its body."""
        original = super().get_route_handler()

        async def handle(request: Request) -> Response:
            request.state.caller = await auth.authenticate(request)
            _reject_nul(request)
            strict = StrictRequest(request.scope, request.receive, self.body_limit())
            if self.body_field is not None:
                await strict.body()  # here, because FastAPI answers 400 to all that it meets
            try:
                return await original(strict)
            except RequestValidationError as error:
                caller = request.state.caller
                # In a thread: a body may have thousands of faults, and the database is asked.
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
