"""PartialSpec: the valid part of a request, with defaults in place of its invalid fields.

Pydantic names each invalid value. :func:`parse_partially` drops these values and validates again,
so that rules between fields read typed attributes and one response lists all issues of a request.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from kdcore.schema.validation.errors import BodyPath, body_path, format_pointer

Spec = TypeVar("Spec", bound=BaseModel)
_Spec_co = TypeVar("_Spec_co", bound=BaseModel, covariant=True)
_MAX_ROUNDS = 20
"""Removing a value can make the object around it invalid; fields are nested less deeply."""
_ABSENT = object()


class _Placeholder(str):
    """Stands for a required value that is missing; most required fields are strings."""

    __slots__ = ()


@dataclass(frozen=True)
class PartialSpec(Generic[_Spec_co]):
    """A request as far as it is valid."""

    spec: _Spec_co
    """The request with defaults, or placeholders, in place of its invalid fields."""
    broken: frozenset[str] = frozenset()
    """Pointers of the values that were replaced."""
    list_indices: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """For each list that lost items, by its pointer: the indices that the others had."""

    def is_intact(self, *pointers: str) -> bool:
        """Whether all of these values are as the client wrote them, except for values in them."""
        return self.is_readable(*pointers) and not any(p in self.list_indices for p in pointers)

    def is_readable(self, *pointers: str) -> bool:
        """The same, but a list may have lost items."""
        return not any(prefix in self.broken for p in pointers for prefix in _prefixes(p))

    def index(self, pointer: str, position: int) -> int:
        """The index that item ``position`` of a list of the spec had in the request."""
        indices = self.list_indices.get(pointer)
        return position if indices is None else indices[position]


def parse_partially(model: type[Spec], body: object) -> PartialSpec[Spec] | None:
    """The valid part of ``body``; None where nothing can be read, as in a body that is a number."""
    repair = _Repair(body)
    for _ in range(_MAX_ROUNDS):
        try:
            spec = model.model_validate(repair.body)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            paths = {body_path(repair.body, e["loc"], e["type"]): e["type"] for e in details}
            if () in paths:
                return None
            repair.apply(paths)
        else:
            return PartialSpec(spec, frozenset(repair.broken), repair.pointers_of_indices())
    return None


@dataclass
class _Repair:
    """A body whose invalid values are replaced round by round."""

    body: object
    broken: set[str] = field(default_factory=set)
    indices: dict[BodyPath, list[int]] = field(default_factory=dict)
    """Original indices of the items of each list that lost some, by the list's original path."""

    def apply(self, errors: Mapping[BodyPath, str]) -> None:
        """Replace the values at these paths, each with an error of the given type."""
        edits: dict[int | str, Any] = {}
        # An invalid item may make its list too short: replace the item, and validate again.
        outer = {path[:length] for path in errors for length in range(len(path))}
        for path in errors.keys() - outer:
            target = self._target(path)
            node = edits
            for step in target[:-1]:
                node = node.setdefault(step, {})
            node[target[-1]] = {_REPLACED: errors[path] if target == path else _REMOVED}
        self.body = self._with_edits(self.body, edits, ())

    def pointers_of_indices(self) -> dict[str, tuple[int, ...]]:
        """The same indices by the lists' pointers."""
        return {format_pointer(path): tuple(remaining) for path, remaining in self.indices.items()}

    def _target(self, path: BodyPath) -> BodyPath:
        """The value to replace: where a placeholder does not help, the object around it."""
        is_placeholder = isinstance(_value_at(self.body, path), _Placeholder)
        return path[:-1] if is_placeholder and len(path) > 1 else path

    def _with_edits(self, node: Any, edits: Mapping[int | str, Any], original: BodyPath) -> Any:
        """A copy of ``node`` with the edits below it; ``original`` is its path in the request."""
        if isinstance(node, list | tuple):
            return self._list_with_edits(node, edits, original)
        copy = dict(node)
        for key, edit in edits.items():
            value = self._replacement(copy.get(key, _ABSENT), edit, (*original, key))
            if value is _ABSENT:
                copy.pop(key, None)
            else:
                copy[key] = value
        return copy

    def _list_with_edits(
        self, node: Iterable[Any], edits: Mapping[int | str, Any], original: BodyPath
    ) -> list[Any]:
        items = list(node)
        indices = self.indices.get(original, list(range(len(items))))
        edited = [
            self._replacement(item, edits[i], (*original, indices[i])) if i in edits else item
            for i, item in enumerate(items)
        ]
        remaining = [i for i, item in enumerate(edited) if item is not _ABSENT]
        if len(remaining) < len(items):
            self.indices[original] = [indices[i] for i in remaining]
        return [edited[i] for i in remaining]

    def _replacement(self, value: Any, edit: Mapping[Any, Any], original: BodyPath) -> Any:
        if _REPLACED not in edit:
            return self._with_edits(value, edit, original)
        kind = edit[_REPLACED]
        if kind != _REMOVED and isinstance(value, dict) and value.keys() > {"type"}:
            # The fields contradict each other: the variant with its defaults remains.
            self.broken |= {format_pointer((*original, key)) for key in value if key != "type"}
            return {"type": value["type"]}
        self.broken.add(format_pointer(original))
        if value is _ABSENT:
            return _Placeholder("?")
        return {} if kind in _NOT_AN_OBJECT and isinstance(original[-1], int) else _ABSENT


_REPLACED = object()
"""Key of an edit that replaces a value; all other keys lead to values inside it."""
_REMOVED = "removed"
_NOT_AN_OBJECT = ("model_type", "model_attributes_type", "dict_type")


def _value_at(body: Any, path: BodyPath) -> Any:
    for step in path:
        present = isinstance(body, list | tuple) or (isinstance(body, dict) and step in body)
        if not present:
            return _ABSENT
        body = body[step]
    return body


def _prefixes(pointer: str) -> Iterable[str]:
    """The pointer and those of all objects around it."""
    steps = pointer.split("/")
    return ("/".join(steps[: n + 1]) for n in range(1, len(steps)))
