"""Faults of a request: where, what was wrong, what would be right. All of them are told at once."""

from typing import Any

from pydantic import BaseModel, Field
from pydantic_core import ErrorDetails

from kdcore.schema.validation.suggestions import meant

_MOST_HINTS = 20
"""Faults that are looked at for what was meant: a body may have tens of thousands."""


class Fault(BaseModel):
    """One fault of a request, as a problem document lists it."""

    pointer: str = Field(description="JSON pointer into the body as it was sent")
    code: str
    detail: str
    fix: list[dict[str, Any]] | None = Field(
        default=None, exclude=True, description="JSON Patch that would mend this fault"
    )


def field_faults(
    errors: list[ErrorDetails], body: object, model: type[BaseModel] | None = None
) -> list[Fault]:
    """Pydantic's errors as faults whose pointers exist in ``body``, never a union's branch.

    With the ``model`` that the body should be, an unknown field is told what it may have meant.
    """
    faults: dict[tuple[str, str, str], Fault] = {}
    for number, error in enumerate(errors):
        pointer = pointer_into(body, error["loc"], error["type"])
        sentence = _sentence(error, model if number < _MOST_HINTS else None)
        fault = Fault(pointer=pointer, code=error["type"], detail=sentence)
        faults.setdefault((fault.pointer, fault.code, fault.detail), fault)
    told = list(faults.values())
    return [fault for fault in told if not _echo(fault, told)]


def _echo(fault: Fault, faults: list[Fault]) -> bool:
    """A list whose items are faulty is also told to be too short: the items' own faults suffice."""
    below = f"{fault.pointer}/"
    return fault.code == "too_short" and any(other.pointer.startswith(below) for other in faults)


def pointer_into(body: object, loc: tuple[int | str, ...], kind: str = "") -> str:
    """The JSON pointer for pydantic's ``loc``: steps that the client did not write are left out."""
    here: object = body
    steps: list[str] = []
    variant: object = None
    for position, step in enumerate(loc):
        if step == _variant(here) and here is not variant:
            variant = here  # the name of a union's branch; a field of that name would come next
            continue
        if _has(here, step):
            here = here[step]  # type: ignore[index]
        elif not (kind == "missing" and position == len(loc) - 1 and isinstance(step, str)):
            continue
        steps.append(_escape(str(step)))
    if kind in ("union_tag_invalid", "union_tag_not_found") and isinstance(here, dict):
        steps.append("type")
    return "".join(f"/{step}" for step in steps)


def _variant(here: object) -> object:
    return here.get("type") if isinstance(here, dict) else None


def _has(here: object, step: int | str) -> bool:
    if isinstance(here, list):
        return isinstance(step, int) and step < len(here)
    return isinstance(here, dict) and step in here


def _escape(step: str) -> str:
    # A lone surrogate cannot be encoded as UTF-8, and the step may be any text a client made up.
    step = step.encode("utf-8", "replace").decode()
    return step.replace("~", "~0").replace("/", "~1")[:200]


_SENTENCES = {
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


def _sentence(error: ErrorDetails, model: type[BaseModel] | None) -> str:
    if error["type"] == "extra_forbidden" and model is not None:
        near = meant(model, error["loc"])
        return _SENTENCES["extra_forbidden"] + (f"; did you mean {near}?" if near else "")
    context = error.get("ctx", {})
    if error["type"] == "value_error" and "error" in context:
        return str(context["error"])
    if error["type"] in _SENTENCES:
        return _SENTENCES[error["type"]].format_map(
            {"expected": "", "expected_tags": "", **context}
        )
    return error["msg"]
