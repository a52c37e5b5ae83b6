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

from api.http.responses import dump_json
from kdcore.schema.validation.errors import ValidationIssue, field_issues
from store.jobs import IllegalTransitionError

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
IDLE_IN_TRANSACTION_TIMEOUT = (
    "25P03"  # our transaction waited for something else, and the server ended it
)


class ProblemDocument(BaseModel):
    """An error as every route answers it (RFC 9457)."""

    type: str = Field(description="Names the code; docs/reference/problems.md explains each")
    title: str
    status: int
    code: str
    detail: str
    instance: str
    request_id: str
    errors: list[ValidationIssue] | None = Field(
        default=None, description="422: one entry for each fault"
    )
    fix: list[dict[str, Any]] | None = Field(
        default=None, description="JSON Patch that would make the request valid"
    )
    current_state: str | None = Field(default=None, description="409: the resource's state")


class ProblemError(Exception):
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
        errors = [{"pointer": "", "code": code, "detail": detail}]
        self.members = ({"errors": errors} if status == 422 else {}) | members


class InvalidRequestError(ProblemError):
    """The request is well formed and cannot be done."""

    def __init__(self, issues: list[ValidationIssue]) -> None:
        self.issues = issues
        count = "1 fault" if len(issues) == 1 else f"{len(issues)} faults"
        errors = [fault.model_dump() for fault in issues]
        fix = [patch for fault in issues for patch in fault.fix or []]
        members: dict[str, Any] = {"errors": errors} | ({"fix": fix} if fix else {})
        super().__init__(422, "invalid_request", f"the request has {count}", **members)


class NotFoundError(ProblemError):
    """There is no such thing, or it is another project's."""

    def __init__(self, resource: str) -> None:
        super().__init__(404, "not_found", f"there is no such {resource}")


class ConflictError(ProblemError):
    """The resource's state does not allow it."""

    def __init__(self, code: str, detail: str, **members: Any) -> None:
        super().__init__(409, code, detail, **members)


def problem_response(request: Request, problem: ProblemError) -> Response:
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
    return Response(
        dump_json(document), problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def install_handlers(app: FastAPI) -> None:
    """Answer every kind of error that a request can meet with a problem document."""
    app.add_exception_handler(ProblemError, _handle_problem)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    for unavailable in (OperationalError, PoolTimeout, DBAPIError):
        app.add_exception_handler(unavailable, _handle_database_error)
    app.add_exception_handler(OSError, _handle_object_store_error)
    app.add_exception_handler(IllegalTransitionError, _handle_illegal_transition)


async def _handle_problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, ProblemError)  # noqa: S101 - the registration says so
    return problem_response(request, problem)


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return problem_response(request, validation_problem(error, None))


def validation_problem(
    error: RequestValidationError, model: type[BaseModel] | None
) -> ProblemError:
    """What FastAPI found wrong in what should be a ``model``: unreadable JSON is a 400, everything
    else a 422."""
    details = error.errors()
    if any(entry["type"] == "json_invalid" for entry in details):
        return ProblemError(400, "malformed_json", "the body is not valid JSON")
    if error.body is None and any(entry["loc"] == ("body",) for entry in details):
        return ProblemError(422, "invalid_request", "a JSON body is required")
    if isinstance(error.body, bytes):
        return ProblemError(
            415, "unsupported_media_type", "the body must be sent as Content-Type: application/json"
        )
    return InvalidRequestError(request_issues(error, model))


def request_issues(
    error: RequestValidationError, model: type[BaseModel] | None
) -> list[ValidationIssue]:
    """Faults of the body by JSON pointer; faults of a query parameter or header by its name."""
    body_errors: list[Any] = []
    other_issues: list[ValidationIssue] = []
    for entry in error.errors():
        location, *loc = entry["loc"]
        if location == "body":
            body_errors.append({**entry, "loc": tuple(loc)})
        else:
            issues = field_issues([cast("ErrorDetails", {**entry, "loc": ()})], None)
            other_issues += [fault.model_copy(update={"pointer": f"?{loc[0]}"}) for fault in issues]
    return [*field_issues(body_errors, error.body, model), *other_issues]


async def _handle_illegal_transition(request: Request, error: Exception) -> Response:
    assert isinstance(error, IllegalTransitionError)  # noqa: S101
    return problem_response(
        request, ConflictError("illegal_transition", str(error), current_state=error.state)
    )


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    detail = {404: "there is nothing at this address", 405: "this address has no such method"}
    text = detail.get(error.status_code, str(error.detail))
    return problem_response(
        request, ProblemError(error.status_code, code, text, headers=error.headers)
    )


async def _handle_database_error(request: Request, error: Exception) -> Response:
    ours = isinstance(error, DBAPIError) and not isinstance(error, OperationalError)
    if (
        ours
        and getattr(getattr(error, "orig", None), "sqlstate", None) != IDLE_IN_TRANSACTION_TIMEOUT
    ):
        raise error
    log.warning("database_unavailable", error=str(error))
    return problem_response(
        request, _unavailable("database_unavailable", "the database does not answer")
    )


async def _handle_object_store_error(request: Request, error: Exception) -> Response:
    log.warning("object_store_unavailable", error=str(error))
    return problem_response(
        request, _unavailable("storage_unavailable", "the object store does not answer")
    )


def _unavailable(code: str, detail: str) -> ProblemError:
    retry = {"Retry-After": str(RETRY_AFTER_S)}
    return ProblemError(
        503,
        code,
        f"{detail}; try again: with the same Idempotency-Key nothing is done twice",
        headers=retry,
    )


def timeout_response(request: Request) -> Response:
    """The 503 of a request that came to no answer in its time."""
    return problem_response(request, _unavailable("overloaded", "there was no answer in time"))


def internal_error_response(request: Request) -> Response:
    """The 500 of what nobody has thought of; the middleware logs what it was."""
    return problem_response(
        request, ProblemError(500, "internal", "something went wrong that is our fault")
    )
