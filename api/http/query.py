"""Query strings: as strict as bodies. An unknown or repeated parameter is an issue, not ignored."""

import re
from collections.abc import Mapping
from typing import Annotated, get_args, get_origin

from fastapi import Request
from fastapi.dependencies.models import Dependant
from pydantic import AwareDatetime, BeforeValidator

from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.suggestions import suggest_names

MAX_SUGGESTIONS = 20
"""Unknown parameters that get a suggestion."""
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
    """An issue for each parameter that is unknown, is repeated, or contains NUL.

    NUL is refused because Postgres cannot store or compare it.
    """
    issues: list[ValidationIssue] = []
    for index, name in enumerate(request.query_params):
        values = request.query_params.getlist(name)
        if name not in parameters:
            # A client may send any number of names, and each comparison takes time.
            suggestion = _suggest(name, parameters) if index < MAX_SUGGESTIONS else ""
            issues.append(_issue(name, "extra_forbidden", _describe(suggestion, parameters)))
        elif len(values) > 1 and not parameters[name]:
            issues.append(_issue(name, "repeated", f"must be given once, not {len(values)} times"))
        elif any("\0" in value for value in values):
            issues.append(_issue(name, "control_character", "must not contain NUL"))
    return issues


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
