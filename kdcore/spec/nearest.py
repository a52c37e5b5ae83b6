"""Which field somebody may have meant who wrote one that is not there."""

import difflib
from collections.abc import Iterator, Set
from typing import Any, get_args

from pydantic import BaseModel

from kdcore.spec.base import either

Models = Set[type[BaseModel]]
_LONGEST = 100
"""Characters of a name that are compared: it may be any text a client made up."""


def meant(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Up to three fields that ``loc``, an unknown one of ``model``, may mean; or nothing.

    The more alike the better, and of equals the nearer; what is elsewhere comes as a path,
    `training.optimizer.lr`.
    """
    name = str(loc[-1])[:_LONGEST]
    here, prefix = _at(model, loc[:-1])
    places: dict[str, list[str]] = {}
    for field, path in _paths({model}, "", frozenset()):
        places.setdefault(field, []).append(path)
    if f"{prefix}{name}" in places.get(name, []):
        places.clear()  # another variant has it: that is what was meant, and it is not to be had
    neighbours = sorted({field for each in here for field, _ in _fields(each)})
    found = (
        _similar(name, neighbours, 0.8)
        or places.get(name)
        or _similar(name, neighbours, 0.6)
        or [path for each in _similar(name, sorted(places), 0.8) for path in places[each]]
    )
    return either([f"`{each}`" for each in list(dict.fromkeys(found))[:3]])


def _similar(name: str, known: list[str], cutoff: float) -> list[str]:
    longer = [each for each in known if len(name) > 2 and each.startswith(name)]
    return difflib.get_close_matches(name, known, 3, cutoff) or longer


def _at(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[Models, str]:
    """The models that may stand at a place, and its path: the one that a tag names, or all of a
    union."""
    here: Models = {model}
    prefix = ""
    for step in loc:
        tagged = {each for each in here if _tag(each) == step}
        if tagged and len(here) > 1:
            here = tagged
            continue
        kinds = [kind for each in here for name, kind in _fields(each) if name == step]
        if kinds:
            here = {each for kind in kinds for each in _within(kind)}
            prefix += f"{step}."
    return here, prefix


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


def _paths(models: Models, prefix: str, above: Models) -> Iterator[tuple[str, str]]:
    """Every field's name with its path; of a model within itself, none."""
    for model in sorted(models - above, key=lambda each: each.__name__):
        for name, kind in _fields(model):
            yield name, f"{prefix}{name}"
            yield from _paths(set(_within(kind)), f"{prefix}{name}.", above | {model})
