"""Faults of a request: where, what was wrong, what would be right. All of them are told at once."""

from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails

from kdcore.schema.validation.suggestions import suggest_fields

_MAX_SUGGESTIONS = 20
"""Faults that are looked at for what was meant: a body may have tens of thousands."""


class ValidationIssue(BaseModel):
    """One fault of a request, as a problem document lists it."""

    pointer: str = Field(description="JSON pointer into the body as it was sent")
    code: str
    detail: str
    fix: list[dict[str, Any]] | None = Field(
        default=None, exclude=True, description="JSON Patch that would mend this fault"
    )


def field_issues(
    errors: list[ErrorDetails], body: object, model: type[BaseModel] | None = None
) -> list[ValidationIssue]:
    """Pydantic's errors as faults whose pointers exist in ``body``, never a union's branch.

    With the ``model`` that the body should be, an unknown field is told what it may have meant.
    """
    unique_issues: dict[tuple[str, str, str], ValidationIssue] = {}
    for index, error in enumerate(errors):
        pointer = json_pointer(body, error["loc"], error["type"])
        message = _message(error, model if index < _MAX_SUGGESTIONS else None)
        issue = ValidationIssue(pointer=pointer, code=error["type"], detail=message)
        unique_issues.setdefault((issue.pointer, issue.code, issue.detail), issue)
    issues = list(unique_issues.values())
    return [issue for issue in issues if not _is_redundant(issue, issues)]


def _is_redundant(issue: ValidationIssue, issues: list[ValidationIssue]) -> bool:
    """A list whose items are faulty is also told to be too short: the items' own faults suffice."""
    below = f"{issue.pointer}/"
    return issue.code == "too_short" and any(other.pointer.startswith(below) for other in issues)


def json_pointer(body: object, loc: tuple[int | str, ...], kind: str = "") -> str:
    """The JSON pointer for pydantic's ``loc``: steps that the client did not write are left out."""
    node: object = body
    steps: list[str] = []
    variant: object = None
    for position, step in enumerate(loc):
        if step == _union_tag(node) and node is not variant:
            variant = node  # the name of a union's branch; a field of that name would come next
            continue
        if _has(node, step):
            node = node[step]  # type: ignore[index]
        elif not (kind == "missing" and position == len(loc) - 1 and isinstance(step, str)):
            continue
        steps.append(_escape(str(step)))
    if kind in ("union_tag_invalid", "union_tag_not_found") and isinstance(node, dict):
        steps.append("type")
    return "".join(f"/{step}" for step in steps)


def _union_tag(node: object) -> object:
    return node.get("type") if isinstance(node, dict) else None


def _has(node: object, step: int | str) -> bool:
    if isinstance(node, list):
        return isinstance(step, int) and step < len(node)
    return isinstance(node, dict) and step in node


def _escape(step: str) -> str:
    # A lone surrogate cannot be encoded as UTF-8, and the step may be any text a client made up.
    step = step.encode("utf-8", "replace").decode()
    return step.replace("~", "~0").replace("/", "~1")[:200]


_MESSAGES = {
    "missing": "this field is required",
    "extra_forbidden": "there is no such field here",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "this field is required and names the variant",
    "literal_error": "must be {expected}",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dict_type": "must be an object",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
}


def _message(error: ErrorDetails, model: type[BaseModel] | None) -> str:
    if error["type"] == "extra_forbidden" and model is not None:
        suggestion = suggest_fields(model, error["loc"])
        return _MESSAGES["extra_forbidden"] + (
            f"; did you mean {suggestion}?" if suggestion else ""
        )
    context = error.get("ctx", {})
    if error["type"] == "value_error" and "error" in context:
        return str(context["error"])
    if error["type"] in _MESSAGES:
        return _MESSAGES[error["type"]].format_map({"expected": "", "expected_tags": "", **context})
    return error["msg"]
