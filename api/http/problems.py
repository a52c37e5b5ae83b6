"""Everything that is not a success is a problem document (RFC 9457).

    Problem                 any status, with a code
      Invalid               422, one entry a fault, all faults of the request at once
      NotFound              404, the same for what is not there and for what is another project's
      Conflict              409, with the current state where there is one

No problem echoes a value that was sent, because it may be a secret, and none shows a stack trace.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.http.responses import dumps
from kdcore.schema.validation.errors import Fault, field_faults
from store.jobs import IllegalTransition

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
IDLE_TOO_LONG = "25P03"  # our transaction waited for something else, and the server ended it


class ProblemDocument(BaseModel):
    """An error as every route answers it (RFC 9457)."""

    type: str = Field(description="Names the code; docs/reference/problems.md explains each")
    title: str
    status: int
    code: str
    detail: str
    instance: str
    request_id: str
    errors: list[Fault] | None = Field(default=None, description="422: one entry for each fault")
    fix: list[dict[str, Any]] | None = Field(
        default=None, description="JSON Patch that would make the request valid"
    )
    current_state: str | None = Field(default=None, description="409: the resource's state")


class Problem(Exception):  # noqa: N818 - the word of RFC 9457
    """An answer other than success."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        # Also a 422 of one sentence lists its one fault: clients read that list and nothing else.
        whole = [{"pointer": "", "code": code, "detail": detail}]
        self.members = ({"errors": whole} if status == 422 else {}) | members


class Invalid(Problem):
    """The request is well formed and cannot be done."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        errors = [fault.model_dump() for fault in faults]
        fix = [patch for fault in faults for patch in fault.fix or []]
        members: dict[str, Any] = {"errors": errors} | ({"fix": fix} if fix else {})
        super().__init__(422, "invalid_request", f"the request has {count}", **members)


class NotFound(Problem):
    """There is no such thing, or it is another project's."""

    def __init__(self, what: str) -> None:
        super().__init__(404, "not_found", f"there is no such {what}")


class Conflict(Problem):
    """The resource's state does not allow it."""

    def __init__(self, code: str, detail: str, **members: Any) -> None:
        super().__init__(409, code, detail, **members)


def answer(request: Request, problem: Problem) -> Response:
    """The problem as a response."""
    document = {
        "type": f"urn:stillhouse:problem:{problem.code}",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "code": problem.code,
        "detail": problem.detail,
        "instance": request.url.path,
        "request_id": getattr(request.state, "request_id", ""),
        **problem.members,
    }
    return Response(dumps(document), problem.status, headers=problem.headers, media_type=MEDIA_TYPE)


def install(app: FastAPI) -> None:
    """Answer every kind of error that a request can meet with a problem document."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    for away in (OperationalError, PoolTimeout, DBAPIError):
        app.add_exception_handler(away, _database_away)
    app.add_exception_handler(OSError, _store_away)
    app.add_exception_handler(IllegalTransition, _illegal)


async def _problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, Problem)  # noqa: S101 - the registration says so
    return answer(request, problem)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return answer(request, of_validation(error, None))


def of_validation(error: RequestValidationError, model: type[BaseModel] | None) -> Problem:
    """What FastAPI found wrong in what should be a ``model``: unreadable JSON is a 400, everything
    else a 422."""
    details = error.errors()
    if any(entry["type"] == "json_invalid" for entry in details):
        return Problem(400, "malformed_json", "the body is not valid JSON")
    if error.body is None and any(entry["loc"] == ("body",) for entry in details):
        return Problem(422, "invalid_request", "a JSON body is required")
    if isinstance(error.body, bytes):
        return Problem(
            415, "unsupported_media_type", "the body must be sent as Content-Type: application/json"
        )
    return Invalid(request_faults(error, model))


def request_faults(error: RequestValidationError, model: type[BaseModel] | None) -> list[Fault]:
    """Faults of the body by JSON pointer; faults of a query parameter or header by its name."""
    of_body: list[Any] = []
    elsewhere: list[Fault] = []
    for entry in error.errors():
        place, *loc = entry["loc"]
        if place == "body":
            of_body.append({**entry, "loc": tuple(loc)})
        else:
            found = field_faults([cast("ErrorDetails", {**entry, "loc": ()})], None)
            elsewhere += [fault.model_copy(update={"pointer": f"?{loc[0]}"}) for fault in found]
    return [*field_faults(of_body, error.body, model), *elsewhere]


async def _illegal(request: Request, error: Exception) -> Response:
    assert isinstance(error, IllegalTransition)  # noqa: S101
    return answer(request, Conflict("illegal_transition", str(error), current_state=error.state))


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    detail = {404: "there is nothing at this address", 405: "this address has no such method"}
    text = detail.get(error.status_code, str(error.detail))
    return answer(request, Problem(error.status_code, code, text, headers=error.headers))


async def _database_away(request: Request, error: Exception) -> Response:
    ours = isinstance(error, DBAPIError) and not isinstance(error, OperationalError)
    if ours and getattr(getattr(error, "orig", None), "sqlstate", None) != IDLE_TOO_LONG:
        raise error
    log.warning("database_away", error=str(error))
    return answer(request, _away("database_unavailable", "the database does not answer"))


async def _store_away(request: Request, error: Exception) -> Response:
    log.warning("object_store_away", error=str(error))
    return answer(request, _away("storage_unavailable", "the object store does not answer"))


def _away(code: str, detail: str) -> Problem:
    retry = {"Retry-After": str(RETRY_AFTER_S)}
    return Problem(
        503,
        code,
        f"{detail}; try again: with the same Idempotency-Key nothing is done twice",
        headers=retry,
    )


def too_late(request: Request) -> Response:
    """The 503 of a request that came to no answer in its time."""
    return answer(request, _away("overloaded", "there was no answer in time"))


def unexpected(request: Request) -> Response:
    """The 500 of what nobody has thought of; the middleware logs what it was."""
    return answer(request, Problem(500, "internal", "something went wrong that is our fault"))
