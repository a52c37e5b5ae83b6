"""The British spelling in files that were stored before the names became American.

Stored files are never rewritten, so they are read in both spellings: data sets, folders of finished
students, checkpoints. New files have the American names alone.
"""

from collections.abc import Mapping
from typing import TypeVar

_Value = TypeVar("_Value")

OLD_SPELLINGS = {
    "normalization": "normalisation",
    "unlabeled": "unlabelled",
}
"""From today's name to the name in old files."""
_CURRENT_SPELLINGS = {old: current for current, old in OLD_SPELLINGS.items()}


def old_spelling(name: str) -> str:
    """The name that old files have for ``name``; most names never changed."""
    return OLD_SPELLINGS.get(name, name)


def with_current_spelling(fields: Mapping[str, _Value]) -> dict[str, _Value]:
    """``fields`` of a stored file under today's names; nested mappings stay as they are.

    A name may be a path, such as the ``unlabeled/images`` of a tensor: its first part counts.
    """
    return {_current_spelling(name): value for name, value in fields.items()}


def _current_spelling(name: str) -> str:
    first, slash, rest = name.partition("/")
    return _CURRENT_SPELLINGS.get(first, first) + slash + rest
