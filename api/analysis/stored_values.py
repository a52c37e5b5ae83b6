"""Values of stored jobs: what cannot be used is None, so that one job does not hide the others."""

import math
from typing import Any

from pydantic import ValidationError

from kdcore.schema.job import ResolvedStudent

UNKNOWN_NETWORK = "unknown"


def read_number(value: Any) -> float | None:
    """A stored number; None for infinities, NaN and values of other types."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and math.isfinite(value) else None


def read_network(resolved_student: Any) -> str:
    """The name of the student's network; ``unknown`` if the stored settings are invalid."""
    try:
        return ResolvedStudent.model_validate(resolved_student).network
    except ValidationError:
        return UNKNOWN_NETWORK


def read_objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a stored list; empty for a value of another type."""
    items = value if isinstance(value, list) else []
    return [item for item in items if isinstance(item, dict)]
