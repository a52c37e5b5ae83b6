"""Query strings: as strict as bodies. An unknown or repeated parameter is an issue, not ignored."""

import re
from collections.abc import Mapping
from typing import Annotated, get_args, get_origin
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.dependencies.models import Dependant
from pydantic import AwareDatetime, BeforeValidator

from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.suggestions import suggest_names

MAX_SUGGESTIONS = 20
"""Unknown parameters that get a suggestion."""
MAX_ISSUES = 100
"""Issues in detail; one more counts the others, because a query may have thousands of names."""
_OTHER_NAMES = {
    "cursor": ("page", "offset", "skip", "start", "page_token", "starting_after", "next_cursor"),
    "limit": ("per_page", "page_size", "size", "count", "max_results", "first"),
}
"""Names by which other APIs call parameters of this one."""
_OFFSET_WITHOUT_PLUS = re.compile(r"(\d[T ]\d\d:\d\d\S*) (\d\d(?::?\d\d)?)$", re.ASCII)


def _restore_plus(value: object) -> object:
    """In a query string, a raw ``+`` means a space; before an offset of time it is a plus."""
    return _OFFSET_WITHOUT_PLUS.sub(r"\1+\2", value) if isinstance(value, str) else value


QueryTime = Annotated[AwareDatetime, BeforeValidator(_restore_plus)]
"""A time with an offset; the ``+`` of the offset need not be percent-encoded."""


def query_parameters(dependant: Dependant) -> dict[str, bool]:
    """The query parameters of a route, also those of its dependencies: name to repeatable."""
    parameters = {
        field.alias: _is_sequence(field.field_info.annotation) for field in dependant.query_params
    }
    for dependency in dependant.dependencies:
        parameters |= query_parameters(dependency)
    return parameters


def _is_sequence(annotation: object) -> bool:
    kinds = (annotation, *get_args(annotation))
    return any(get_origin(kind) in (list, tuple, set) for kind in kinds)


def find_query_issues(request: Request, parameters: Mapping[str, bool]) -> list[ValidationIssue]:
    """An issue for each parameter that is unknown, is repeated, contains NUL or is not UTF-8.

    NUL is refused because Postgres cannot store or compare it.
    """
    undecodable = _undecodable_names(request.scope["query_string"])
    values_by_name: dict[str, list[str]] = {}
    for name, value in request.query_params.multi_items():
        values_by_name.setdefault(name, []).append(value)
    faults = [
        (name, code)
        for name, values in values_by_name.items()
        if (code := _find_fault(name, values, parameters))
        or (code := "invalid_utf8" if name in undecodable else None)
    ]
    issues = [
        _issue(name, code, _explain(name, code, len(values_by_name[name]), index, parameters))
        for index, (name, code) in enumerate(faults[:MAX_ISSUES])
    ]
    if others := len(faults) - len(issues):
        detail = f"{others:,} more query parameters are invalid"
        issues.append(_issue("", "too_many_issues", detail))
    return issues


def _find_fault(name: str, values: list[str], parameters: Mapping[str, bool]) -> str | None:
    """The code of the issue; None if the parameter is valid."""
    if name not in parameters:
        return "extra_forbidden"
    if len(values) > 1 and not parameters[name]:
        return "repeated"
    return "control_character" if any("\0" in value for value in values) else None


def _undecodable_names(query: bytes) -> set[str]:
    """The names of the parameters whose values are not UTF-8."""
    names = set()
    for part in query.replace(b"+", b" ").split(b"&"):
        name, _, value = part.partition(b"=")
        try:
            unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            names.add(unquote_to_bytes(name).decode(errors="replace"))
    return names


def _explain(
    name: str, code: str, num_values: int, index: int, parameters: Mapping[str, bool]
) -> str:
    if code == "repeated":
        return f"must be given once, not {num_values} times"
    if code == "control_character":
        return "must not contain NUL"
    if code == "invalid_utf8":
        return "must be UTF-8, percent-encoded"
    # A client may send any number of names, and each comparison takes time.
    suggestion = _suggest(name, parameters) if index < MAX_SUGGESTIONS else ""
    return _describe(suggestion, parameters)


def _issue(name: str, code: str, detail: str) -> ValidationIssue:
    printable = re.sub(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", name)
    return ValidationIssue(pointer=f"?{printable[:200]}", code=code, detail=detail)


def _suggest(name: str, parameters: Mapping[str, bool]) -> str:
    for known, others in _OTHER_NAMES.items():
        if known in parameters and name.lower() in others:
            return f"`{known}`"
    return suggest_names(name, list(parameters))


def _describe(suggestion: str, parameters: Mapping[str, bool]) -> str:
    if suggestion:
        return f"there is no such query parameter; did you mean {suggestion}?"
    if not parameters:
        return "there is no such query parameter; this route has none"
    names = ", ".join(f"`{known}`" for known in sorted(parameters))
    return f"there is no such query parameter; this route has {names}"
