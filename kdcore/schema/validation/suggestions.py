"""Which field somebody may have meant who wrote one that is not there."""

import difflib
import functools
from collections.abc import Iterator, Sequence, Set
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from kdcore.schema.base import either

Models = Set[type[BaseModel]]
_LONGEST = 100
"""Characters of a name that are compared: it may be any text a client made up."""
_SHORT = 3
"""Letters of a name that is like too many others."""
_LIKE, _ALIKE = 0.6, 0.8
"""Similarity of a neighbour that may be meant, and of one that most probably is."""


def meant(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Up to three fields that ``loc``, an unknown one of ``model``, may mean; or nothing.

    Neighbours come by name, fields elsewhere as a JSON pointer, `/training/optimizer/lr`: the same
    name before a similar one, and of similar ones the neighbour.
    """
    name = str(loc[-1])[:_LONGEST]
    here = _at(model, loc[:-1])
    if _similar(name, here.refused, _ALIKE):
        return ""  # another variant's: that is what was meant, and it is not to be had
    places = {
        known: [each for each in pointers if each != f"{here.pointer}/{known}"]
        for known, pointers in _places(model).items()
    }
    found = [*places.get(name, ()), *_similar(name, here.fields, _ALIKE)]
    found = found or _similar(name, here.fields, _LIKE if len(name) > _SHORT else _ALIKE)
    if not found:
        found = [each for known in _similar(name, sorted(places), _ALIKE) for each in places[known]]
    return either([f"`{each}`" for each in list(dict.fromkeys(found))[:3]])


def _similar(name: str, known: Sequence[str], cutoff: float) -> list[str]:
    longer = [each for each in known if len(name) >= _SHORT and each.startswith(name)]
    return difflib.get_close_matches(name, known, 3, cutoff) or longer


class _Here(NamedTuple):
    """A place in a body."""

    pointer: str
    fields: list[str]
    """That may stand there."""
    refused: list[str]
    """That another variant has there."""


def _at(model: type[BaseModel], loc: tuple[int | str, ...]) -> _Here:
    variants: Models = {model}
    chosen: Models = {model}
    pointer = ""
    for step in loc:
        tagged = {each for each in chosen if _tag(each) == step}
        if tagged and len(chosen) > 1:
            chosen = tagged
            continue
        kinds = [kind for each in chosen for name, kind in _fields(each) if name == step]
        if kinds:
            variants = chosen = {each for kind in kinds for each in _within(kind)}
            pointer += f"/{step}{_first(kinds[0])}"
    fields = {name for each in chosen for name, _ in _fields(each)}
    others = {name for each in variants for name, _ in _fields(each)} - fields
    return _Here(pointer, sorted(fields), sorted(others))


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        yield field.alias or name, field.annotation


def _tag(model: type[BaseModel]) -> object:
    kind = model.model_fields.get("type")
    return next(iter(get_args(kind.annotation)), None) if kind else None


def _within(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation, through unions, lists and what qualifies them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _within(argument)


def _first(annotation: Any) -> str:
    return "/0" if get_origin(annotation) in (tuple, list) else ""


@functools.cache
def _places(model: type[BaseModel]) -> dict[str, list[str]]:
    """The pointers of every field, by its name."""
    found: dict[str, list[str]] = {}
    for name, pointer in _pointers({model}, "", frozenset()):
        if pointer not in found.setdefault(name, []):
            found[name].append(pointer)
    return found


def _pointers(models: Models, prefix: str, above: Models) -> Iterator[tuple[str, str]]:
    """Every field's name with its pointer; of a model within itself, none."""
    for model in sorted(models - above, key=lambda each: each.__name__):
        for name, kind in _fields(model):
            pointer = f"{prefix}/{name}"
            yield name, pointer
            yield from _pointers(set(_within(kind)), pointer + _first(kind), above | {model})
