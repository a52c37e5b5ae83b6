"""Problem documents (RFC 9457): the body of every response that reports an error.

Errors that routes raise:

    ProblemError                    any status, with a code of docs/reference/problems.md
      InvalidRequestError           422, every validation issue of the request in one response
      NotFoundError                 404, the same for a missing row and a row of another project
      ConflictError                 409, with the state of the resource where it has one

Errors of other rooms and libraries, and the problem that each becomes:

    RequestValidationError          400, 415 or 422   FastAPI: the body or a parameter is invalid
    HTTPException                   its own status    Starlette: no such path, no such method
    IllegalTransitionError          409               store.jobs: the job's state forbids the action
    ObjectStoreUnavailableError     503               store.object_store
    OSError of a full disk          503               the operating system
    OperationalError, PoolTimeout   503               SQLAlchemy: Postgres does not respond
    any other exception             500               api.http.middleware logs it with its traceback

A problem never contains a value of the request, which may be a secret, and never a traceback.
"""

import errno
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
from store.object_store import ObjectStoreUnavailableError

log = structlog.get_logger()
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
IDLE_IN_TRANSACTION_TIMEOUT = "25P03"
"""SQLSTATE: Postgres ended a transaction that was open for too long without a statement."""


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(description="URN of the code; docs/reference/problems.md explains each code")
    title: str
    status: int
    code: str
    detail: str
    instance: str
    request_id: str
    errors: list[ValidationIssue] | None = Field(
        default=None, description="422: one entry for each validation issue"
    )
    fix: list[dict[str, Any]] | None = Field(
        default=None, description="JSON Patch that resolves the issues that have a known fix"
    )
    current_state: str | None = Field(
        default=None, description="409: the state of the resource, which forbids the request"
    )


_SCHEMA = {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}
PROBLEM_CONTENT: dict[str, Any] = {"content": {MEDIA_TYPE: _SCHEMA}}
# FastAPI creates the component for the response with `model`; the others refer to it.
PROBLEM_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request is malformed", **PROBLEM_CONTENT},
    401: {"description": "The API key is missing or invalid", **PROBLEM_CONTENT},
    403: {"description": "The API key lacks the scope", **PROBLEM_CONTENT},
    404: {"description": "The project has no such resource", **PROBLEM_CONTENT},
    409: {
        "description": "The state of the resource forbids the request: see `current_state`",
        **PROBLEM_CONTENT,
    },
    422: {"description": "The request is invalid: `errors` lists every issue", **PROBLEM_CONTENT},
    503: {
        "description": "The service is overloaded, or its database or object store is "
        "unavailable; retry after `Retry-After`",
        **PROBLEM_CONTENT,
    },
    "default": {"description": "Any other problem", "model": ProblemDocument},
}
"""Responses that every route under /v1 may send, for OpenAPI."""


class ProblemError(Exception):
    """An error response with a status and a code."""

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
        # Every 422 has `errors`, also one that is not about a field: clients read only this list.
        errors = [{"pointer": "", "code": code, "detail": detail}]
        self.members = ({"errors": errors} if status == 422 else {}) | members


class InvalidRequestError(ProblemError):
    """The request is well formed, but its content is invalid."""

    def __init__(self, issues: list[ValidationIssue]) -> None:
        self.issues = issues
        errors = [issue.model_dump() for issue in issues]
        fix = [patch for issue in issues for patch in issue.fix or []]
        members: dict[str, Any] = {"errors": errors} | ({"fix": fix} if fix else {})
        count = "1 issue" if len(issues) == 1 else f"{len(issues)} issues"
        detail = f"the request has {count}: see errors"
        super().__init__(422, "invalid_request", detail, **members)

    @classmethod
    def of(cls, pointer: str, code: str, detail: str) -> "InvalidRequestError":
        """The error of a request with a single issue."""
        return cls([ValidationIssue(pointer=pointer, code=code, detail=detail)])


class NotFoundError(ProblemError):
    """The resource does not exist, or belongs to another project."""

    def __init__(self, resource: str) -> None:
        super().__init__(404, "not_found", f"there is no such {resource}")


class ConflictError(ProblemError):
    """The state of the resource does not allow the request."""

    def __init__(self, code: str, detail: str, **members: Any) -> None:
        super().__init__(409, code, detail, **members)


def problem_response(request: Request, problem: ProblemError) -> Response:
    """The response that reports ``problem`` to the client."""
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
    """Convert every kind of error that a request can raise to a problem document."""
    app.add_exception_handler(ProblemError, _handle_problem)
    app.add_exception_handler(RequestValidationError, _handle_validation_error)
    app.add_exception_handler(HTTPException, _handle_http_exception)
    for unavailable in (OperationalError, PoolTimeout, DBAPIError):
        app.add_exception_handler(unavailable, _handle_database_error)
    app.add_exception_handler(ObjectStoreUnavailableError, _handle_object_store_error)
    app.add_exception_handler(OSError, _handle_os_error)
    app.add_exception_handler(IllegalTransitionError, _handle_illegal_transition)


async def _handle_problem(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, ProblemError)  # noqa: S101 - as registered
    return problem_response(request, problem)


async def _handle_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as registered
    return problem_response(request, validation_problem(error, None))


def validation_problem(
    error: RequestValidationError, model: type[BaseModel] | None
) -> ProblemError:
    """The problem of a body or parameter that FastAPI rejected.

    Malformed JSON is a 400, another media type than JSON a 415, everything else a 422. ``model`` is
    the type of the body: suggestions of field names come from it.
    """
    details = error.errors()
    for entry in details:
        if entry["type"] == "json_invalid":
            return malformed_json(entry["ctx"]["error"], entry["loc"][-1])
    if error.body is None and any(entry["loc"] == ("body",) for entry in details):
        return ProblemError(422, "invalid_request", "a JSON body is required")
    if isinstance(error.body, bytes):
        return ProblemError(
            415, "unsupported_media_type", "the body must be sent as Content-Type: application/json"
        )
    return InvalidRequestError(request_issues(error, model))


def malformed_json(reason: str, position: int) -> ProblemError:
    """The 400 of a body that is no JSON, with the reason and the position of the fault."""
    return ProblemError(
        400, "malformed_json", f"the body is not valid JSON: {reason} (character {position})"
    )


def request_issues(
    error: RequestValidationError, model: type[BaseModel] | None
) -> list[ValidationIssue]:
    """Issues of the body by JSON pointer, issues of query parameters and headers as ``?name``."""
    body_errors: list[Any] = []
    other_issues: list[ValidationIssue] = []
    for entry in error.errors():
        location, *loc = entry["loc"]
        if location == "body":
            body_errors.append({**entry, "loc": tuple(loc)})
        else:
            issues = field_issues([cast("ErrorDetails", {**entry, "loc": ()})], None)
            other_issues += [issue.model_copy(update={"pointer": f"?{loc[0]}"}) for issue in issues]
    return [*field_issues(body_errors, error.body, model), *other_issues]


async def _handle_illegal_transition(request: Request, error: Exception) -> Response:
    assert isinstance(error, IllegalTransitionError)  # noqa: S101 - as registered
    return problem_response(
        request, ConflictError("illegal_transition", str(error), current_state=error.state)
    )


async def _handle_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - as registered
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "_")
    detail = {404: "no resource has this path", 405: "this path does not support this method"}
    text = detail.get(error.status_code, str(error.detail))
    return problem_response(
        request, ProblemError(error.status_code, code, text, headers=error.headers)
    )


async def _handle_database_error(request: Request, error: Exception) -> Response:
    is_bug = isinstance(error, DBAPIError) and not isinstance(error, OperationalError)
    sqlstate = getattr(getattr(error, "orig", None), "sqlstate", None)
    if is_bug and sqlstate != IDLE_IN_TRANSACTION_TIMEOUT:
        raise error
    log.warning("database_unavailable", error=str(error))
    return problem_response(
        request, _unavailable("database_unavailable", "the database does not respond")
    )


async def _handle_object_store_error(request: Request, error: Exception) -> Response:
    log.warning("object_store_unavailable", error=str(error))
    return problem_response(
        request, _unavailable("storage_unavailable", "the object store does not respond")
    )


async def _handle_os_error(request: Request, error: Exception) -> Response:
    if getattr(error, "errno", None) not in (errno.ENOSPC, errno.EDQUOT):
        raise error
    log.error("disk_full", error=str(error))
    return problem_response(
        request, _unavailable("storage_unavailable", "the disk of the server is full")
    )


def _unavailable(code: str, detail: str) -> ProblemError:
    retry = {"Retry-After": str(RETRY_AFTER_S)}
    return ProblemError(
        503,
        code,
        f"{detail}; retry with the same Idempotency-Key, which prevents duplicates",
        headers=retry,
    )


def timeout_response(request: Request) -> Response:
    """The 503 of a request that exceeded its time limit."""
    return problem_response(request, _unavailable("overloaded", "the request took too long"))


def internal_error_response(request: Request) -> Response:
    """The 500 of an unexpected exception; the middleware logs the exception."""
    return problem_response(
        request, ProblemError(500, "internal", "an unexpected error; report the request_id")
    )
