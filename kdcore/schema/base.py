"""FrozenModel: the base of everything that a client may send, and types of text."""

import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class FrozenModel(BaseModel):
    """An immutable value without unknown fields and NaN. Docstrings below fields describe them."""

    model_config = ConfigDict(
        extra="forbid",
        allow_inf_nan=False,
        frozen=True,
        use_attribute_docstrings=True,
        # ``from`` is a keyword of Python, so one field has another name in the code.
        validate_by_name=True,
        serialize_by_alias=True,
    )


def _check_printable(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("must not contain control characters")
    return text


Text = Annotated[str, StringConstraints(max_length=10_000), AfterValidator(_check_printable)]
Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, strip_whitespace=True),
    AfterValidator(_check_printable),
]
Label = Annotated[
    str, StringConstraints(min_length=1, max_length=63, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")
]


def _refuse_text(value: object) -> object:
    """Refuse text and true or false, which pydantic would convert."""
    if isinstance(value, str | bool):
        raise PydanticCustomError("number_type", "must be a number, not text, true or false")
    return value


JsonNumber = BeforeValidator(_refuse_text)
"""For a field that is a number in JSON, too: neither `"4"` nor `true`."""
NUM_SEEDS = 2**63
Seed = Annotated[int, JsonNumber, Field(ge=0, lt=NUM_SEEDS)]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def _normalize_sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise PydanticCustomError("invalid_sha256", "must be a SHA-256: 64 hexadecimal digits")
    return text.lower()


AnySha256 = Annotated[
    str,
    AfterValidator(_normalize_sha256),
    WithJsonSchema({"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}),
]
"""A SHA-256 in capitals or not, as other programs print it; it is stored in small letters."""


def join_with_or(names: Sequence[str]) -> str:
    """Join names for a sentence: `a, b or c`."""
    return " or ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
