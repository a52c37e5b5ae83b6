"""Differences between nested settings."""

from collections.abc import Sequence
from typing import Any

_ABSENT = object()
_MAX_LEVELS = 100


def flatten(value: Any, path: str = "", levels: int = _MAX_LEVELS) -> dict[str, Any]:
    """Leaves by dotted path; empty objects and lists of plain values are leaves, too.

    The path of an entry in a list of objects has its ``type`` where all types differ, else its
    index. An object below ``levels`` others is a leaf.
    """
    if not levels:
        return {path: value}
    if isinstance(value, dict) and value:
        children = {str(key): child for key, child in value.items()}
    elif isinstance(value, list) and any(isinstance(child, dict) for child in value):
        children = dict(zip(_names(value), value, strict=True))
    else:
        return {path: value}
    leaves: dict[str, Any] = {}
    for name, child in children.items():
        leaves |= flatten(child, f"{path}.{name}" if path else name, levels - 1)
    return leaves


def _names(values: list[Any]) -> list[str]:
    types = [item.get("type") if isinstance(item, dict) else None for item in values]
    names = [name for name in types if isinstance(name, str)]
    if len(set(names)) == len(values):
        return names
    return [str(index) for index in range(len(values))]


def find_differences(*settings: Any) -> dict[str, tuple[Any, ...]]:
    """Leaves that differ, by path: one value for each of the settings, None where it has none."""
    leaves = [flatten(setting) for setting in settings]
    paths = dict.fromkeys(path for setting in leaves for path in setting)
    return {
        path: tuple(setting.get(path) for setting in leaves)
        for path in paths
        if not _same([setting.get(path, _ABSENT) for setting in leaves])
    }


def _same(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)
