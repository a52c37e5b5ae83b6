"""Errors of the client and of the local stack.

StillhouseError
├── ApiError                 the API refused a request: its problem document
├── ServiceUnreachableError  no response came from the API
├── UnexpectedResponseError  a response is not from the API, but from a proxy or another program
├── ConnectionSettingsError  the address, the API key or a proxy cannot be used
├── ResourceFailedError      a job, data set or model failed or was cancelled
├── ChecksumError            a downloaded file differs from the published one
├── ArtifactNotFoundError    a job has no file of the requested name
├── DemoError                a check of `stillhouse demo` failed (commands/demo.py)
└── LocalStackError          the local stack could not start or run (local/errors.py)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


_MAX_LISTED = 20


class StillhouseError(Exception):
    """The root of all errors that Stillhouse's client and local stack raise."""


class ApiError(StillhouseError):
    """The API refused a request.

    `status` is the HTTP status, `problem` the problem document (RFC 9457), `code` its code. The
    message lists every validation issue.
    """

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        try:
            self.problem: dict[str, Any] = response.json()
        except ValueError:
            self.problem = {"detail": response.text[:500]}
        self.code = self.problem.get("code", "")
        issues = [
            f"\n  {issue['pointer'] or 'the body'}: {issue['detail']}"
            for issue in self.problem.get("errors") or []
        ]
        super().__init__(f"{self.status} {self.problem.get('detail', '')}{''.join(issues)}")


class ServiceUnreachableError(StillhouseError):
    """No response came from the API: the connection failed or timed out."""


class UnexpectedResponseError(StillhouseError):
    """A response is not from the API: from a proxy, or from another program at its address."""


class ConnectionSettingsError(StillhouseError, ValueError):
    """The address, the API key or a proxy of the environment cannot be used."""


class ResourceFailedError(StillhouseError):
    """A job, data set or model failed or was cancelled. `resource` is its JSON.

    The message has the hint and the fix, and lists the first 20 invalid parts;
    `resource["error"]["items"]` has up to 1,000.
    """

    def __init__(self, resource: dict[str, Any]) -> None:
        self.resource = resource
        error = resource.get("error") or {}
        listed = (error.get("items") or [])[:_MAX_LISTED]
        items = [f"\n  {item['name']}: {item['detail']}" for item in listed]
        num_others = error.get("num_items", len(listed)) - len(listed)
        if num_others > 0:
            items.append(f"\n  and {num_others} more")
        text = error.get("message", "")
        hint = f"\n  hint: {error['hint']}" if error.get("hint") else ""
        fields = ("fix", "likely_class_order")
        repair = [f"\n  {name}: {json.dumps(error[name])}" for name in fields if error.get(name)]
        super().__init__(
            f"{resource['object']} {resource['id']} is {resource['state']}: {text}"
            f"{hint}{''.join(repair)}{''.join(items)}"
        )


class ChecksumError(StillhouseError):
    """The SHA-256 of a downloaded file differs from the published one."""


class ArtifactNotFoundError(StillhouseError):
    """A job has no file of the requested name."""
