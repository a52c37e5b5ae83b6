"""ValidationIssue: one reason why a request is invalid, and how pydantic's errors become issues."""

import json
from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails

from kdcore.schema.job_kinds import JOB_KINDS
from kdcore.schema.validation.suggestions import example_object, suggest_fields

BodyPath = tuple[int | str, ...]
"""Keys and indices from a body to one of its values."""
_MAX_SUGGESTIONS = 20
"""Unknown fields that get a suggestion: a body may have tens of thousands of them."""


class ValidationIssue(BaseModel):
    """One reason why a request is invalid, as a problem document lists it."""

    pointer: str = Field(description="JSON pointer into the body as it was sent")
    code: str
    detail: str
    fix: list[dict[str, Any]] | None = Field(
        default=None, exclude=True, description="JSON Patch that resolves this issue"
    )


def field_issues(
    errors: list[ErrorDetails], body: object, model: type[BaseModel] | None = None
) -> list[ValidationIssue]:
    """Pydantic's errors as issues whose pointers exist in ``body``.

    With the ``model`` of the body, the issue of an unknown field suggests similar field names.
    """
    unique_issues: dict[tuple[str, str, str], ValidationIssue] = {}
    for index, error in enumerate(errors):
        pointer = json_pointer(body, error["loc"], error["type"])
        message = _message(error, body, model if index < _MAX_SUGGESTIONS else None)
        issue = ValidationIssue(
            pointer=pointer, code=error["type"], detail=message, fix=_fix(error, pointer)
        )
        unique_issues.setdefault((issue.pointer, issue.code, issue.detail), issue)
    issues = list(unique_issues.values())
    return [issue for issue in issues if not _is_redundant(issue, issues)]


def _is_redundant(issue: ValidationIssue, issues: list[ValidationIssue]) -> bool:
    """Pydantic also reports a list of invalid items as too short; the items' issues suffice."""
    below = f"{issue.pointer}/"
    return issue.code == "too_short" and any(other.pointer.startswith(below) for other in issues)


def json_pointer(body: object, loc: BodyPath, kind: str = "") -> str:
    """The JSON pointer for pydantic's ``loc``, without the steps that the client did not write."""
    return format_pointer(body_path(body, loc, kind))


def body_path(body: object, loc: BodyPath, kind: str = "") -> BodyPath:
    """The keys and indices in ``body`` that lead to pydantic's ``loc`` of an error of ``kind``.

    Names of union variants are left out. The last key may be absent from the body: a missing field.
    """
    node: object = body
    steps: list[int | str] = []
    variant: object = None
    for position, step in enumerate(loc):
        if step == _union_tag(node) and node is not variant:
            # The first step of this name is the variant; a field of the same name comes after it.
            variant = node
            continue
        if _has(node, step):
            node = node[step]  # type: ignore[index]  # _has checks that it has the step
        elif not (kind == "missing" and position == len(loc) - 1 and isinstance(step, str)):
            continue
        steps.append(step)
    if kind in ("union_tag_invalid", "union_tag_not_found") and isinstance(node, dict):
        steps.append("type")
    return tuple(steps)


def format_pointer(path: BodyPath) -> str:
    """The JSON pointer (RFC 6901) of a path."""
    return "".join(f"/{_escape(str(step))}" for step in path)


def _union_tag(node: object) -> object:
    return node.get("type") if isinstance(node, dict) else None


def _has(node: object, step: int | str) -> bool:
    if isinstance(node, list | tuple):
        return isinstance(step, int) and step < len(node)
    return isinstance(node, dict) and step in node


def _escape(step: str) -> str:
    # UTF-8 cannot encode a lone surrogate, and a client may send any text as a key.
    step = step.encode("utf-8", "replace").decode()
    return step.replace("~", "~0").replace("/", "~1")[:200]


def _fix(error: ErrorDetails, pointer: str) -> list[dict[str, Any]] | None:
    """Return the patch of an error whose context has the right value as ``replacement``."""
    value = error.get("ctx", {}).get("replacement")
    return None if value is None else [{"op": "replace", "path": pointer, "value": value}]


_MESSAGES = {
    "missing": "this field is required",
    "extra_forbidden": "there is no such field here",
    "union_tag_invalid": "must be one of {expected_tags}",
    "union_tag_not_found": "this field is required and names the variant",
    "literal_error": "must be {expected}",
    "dict_type": "must be an object",
    "tuple_type": "must be a list, in brackets: `[…]`",
    "list_type": "must be a list, in brackets: `[…]`",
    "int_type": "must be an integer",
    "int_parsing": "must be an integer",
    "int_from_float": "must be an integer",
}


_CLASS_MAP_OF_EVALUATION = (
    "; an evaluation maps classes by name: set the class_names of the model, in the order of its "
    "logits"
)
_OBJECT_TYPES = ("model_type", "model_attributes_type")


def _message(error: ErrorDetails, body: object, model: type[BaseModel] | None) -> str:
    if error["type"] in _OBJECT_TYPES:
        example = example_object(model, error["loc"], error["input"]) if model is not None else None
        such_as = f", such as `{json.dumps(example, ensure_ascii=False)}`" if example else ""
        return f"must be an object{such_as}"
    if error["type"] == "extra_forbidden" and model is not None:
        if error["loc"][-1] == "class_map" and _measures_a_model(body):
            return _MESSAGES["extra_forbidden"] + _CLASS_MAP_OF_EVALUATION
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


def _measures_a_model(body: object) -> bool:
    """Whether the body is that of a job that measures a model, so that it has no teachers."""
    kind = JOB_KINDS.get(str(body.get("kind"))) if isinstance(body, dict) else None
    return kind is not None and kind.needs == "model"
