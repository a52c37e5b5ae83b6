"""In what nested settings differ."""

from collections.abc import Sequence
from typing import Any

_ABSENT = object()


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by dotted path; empty objects and lists are leaves, and so are lists of plain values.

    The entries of a list of objects are named by their ``type`` where each has another.
    """
    if isinstance(value, dict) and value:
        named = {str(key): each for key, each in value.items()}
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        named = dict(zip(_names(value), value, strict=True))
    else:
        return {path: value}
    found: dict[str, Any] = {}
    for name, each in named.items():
        found |= flat(each, f"{path}.{name}" if path else name)
    return found


def _names(values: list[Any]) -> list[str]:
    types = [each.get("type") if isinstance(each, dict) else None for each in values]
    if None not in types and len(set(types)) == len(types):
        return [str(each) for each in types]
    return [str(number) for number in range(len(values))]


def differing(*settings: Any) -> dict[str, tuple[Any, ...]]:
    """Leaves that are not the same in all, by path: one value each, None where there is no such."""
    leaves = [flat(each) for each in settings]
    paths = dict.fromkeys(path for each in leaves for path in each)
    return {
        path: tuple(each.get(path) for each in leaves)
        for path in paths
        if not _same([each.get(path, _ABSENT) for each in leaves])
    }


def _same(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)
