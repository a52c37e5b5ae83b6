"""Suggest similar field names for an unknown field."""

import difflib
import functools
from collections.abc import Iterator, Sequence, Set
from typing import Any, NamedTuple, get_args, get_origin

from pydantic import BaseModel

from kdcore.schema.base import join_with_or

ModelSet = Set[type[BaseModel]]
_MAX_LENGTH = 100
"""Characters of a name that are compared, because a client may send any text."""
_SHORT_LENGTH = 3
"""Names up to this length are similar to many others, and need a stricter comparison."""
_CUTOFF, _STRICT_CUTOFF = 0.6, 0.8
"""Similarity of possible and of probable suggestions."""


def suggest_fields(model: type[BaseModel], loc: tuple[int | str, ...]) -> str:
    """Up to three known fields that are similar to the unknown field ``loc`` of ``model``.

    Fields of the same object come by name, fields of other objects as a JSON pointer such as
    `/training/optimizer/lr`. Equal names come before similar ones. Empty without suggestions.
    """
    name = str(loc[-1])[:_MAX_LENGTH]
    location = _locate(model, loc[:-1])
    if _similar(name, location.other_variants, _STRICT_CUTOFF):
        return ""  # a field of another variant, which this variant does not have
    elsewhere = {
        known: [candidate for candidate in pointers if candidate != f"{location.pointer}/{known}"]
        for known, pointers in _pointers_by_name(model).items()
    }
    matches = [*elsewhere.get(name, ()), *_similar(name, location.fields, _STRICT_CUTOFF)]
    matches = matches or _similar(
        name, location.fields, _CUTOFF if len(name) > _SHORT_LENGTH else _STRICT_CUTOFF
    )
    if not matches:
        matches = [
            candidate
            for known in _similar(name, sorted(elsewhere), _STRICT_CUTOFF)
            for candidate in elsewhere[known]
        ]
    return join_with_or([f"`{candidate}`" for candidate in list(dict.fromkeys(matches))[:3]])


_EXAMPLES = {
    "model": "mdl_…",
    "job": "job_…",
    "architecture": "cifar/resnet8",
    "weights": "teacher.pt",
    "folder": "runs/teacher",
}


def example_object(
    model: type[BaseModel], loc: tuple[int | str, ...], value: object
) -> dict[str, Any] | None:
    """Return an example of the object at ``loc``, where ``value`` was sent; None without one.

    It has one field: `type` of an object with variants, ``reference_field``, the first required
    field, or the architecture. Of ``value`` it has only the name of a variant, because values may
    be secret.
    """
    variants = sorted(_locate(model, loc).variants, key=lambda candidate: candidate.__name__)
    tags = [tag for variant in variants if (tag := _tag(variant)) is not None]
    if tags:
        return {"type": value if value in tags else tags[0]}
    for variant in variants:
        required = [f.alias or name for name, f in variant.model_fields.items() if f.is_required()]
        for name in (getattr(variant, "reference_field", None), *required, "architecture"):
            if name in _EXAMPLES and name in variant.model_fields:
                return {name: _EXAMPLES[name]}
    return None


def suggest_names(name: str, known: Sequence[str]) -> str:
    """Up to three names of ``known`` that are similar to ``name``; empty without suggestions."""
    name = name[:_MAX_LENGTH]
    matches = _similar(name, known, _CUTOFF if len(name) > _SHORT_LENGTH else _STRICT_CUTOFF)
    return join_with_or([f"`{candidate}`" for candidate in matches[:3]])


def _similar(name: str, known: Sequence[str], cutoff: float) -> list[str]:
    longer = [
        candidate
        for candidate in known
        if len(name) >= _SHORT_LENGTH and candidate.startswith(name)
    ]
    return difflib.get_close_matches(name, known, 3, cutoff) or longer


class _Location(NamedTuple):
    """An object in a body."""

    pointer: str
    fields: list[str]
    """Fields of the object."""
    other_variants: list[str]
    """Fields of its other variants only."""
    variants: ModelSet


def _locate(model: type[BaseModel], loc: tuple[int | str, ...]) -> _Location:
    variants: ModelSet = {model}
    chosen: ModelSet = {model}
    pointer = ""
    for step in loc:
        tagged = {variant for variant in chosen if _tag(variant) == step}
        if tagged and len(chosen) > 1:
            chosen = tagged
            continue
        kinds = [kind for variant in chosen for name, kind in _fields(variant) if name == step]
        if kinds:
            variants = chosen = {variant for kind in kinds for variant in _models_in(kind)}
            pointer += f"/{step}{_index_suffix(kinds[0])}"
    fields = {name for variant in chosen for name, _ in _fields(variant)}
    others = {name for variant in variants for name, _ in _fields(variant)} - fields
    return _Location(pointer, sorted(fields), sorted(others), variants)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, Any]]:
    for name, field in model.model_fields.items():
        yield field.alias or name, field.annotation


def _tag(model: type[BaseModel]) -> object:
    kind = model.model_fields.get("type")
    return next(iter(get_args(kind.annotation)), None) if kind else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in an annotation, also inside unions, lists and ``Annotated``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _index_suffix(annotation: Any) -> str:
    return "/0" if get_origin(annotation) in (tuple, list) else ""


@functools.cache
def _pointers_by_name(model: type[BaseModel]) -> dict[str, list[str]]:
    """The pointers of all fields, by name."""
    pointers: dict[str, list[str]] = {}
    for name, pointer in _pointers({model}, "", frozenset()):
        if pointer not in pointers.setdefault(name, []):
            pointers[name].append(pointer)
    return pointers


def _pointers(models: ModelSet, prefix: str, above: ModelSet) -> Iterator[tuple[str, str]]:
    """Name and pointer of every field; recursive models are visited once."""
    for model in sorted(models - above, key=lambda candidate: candidate.__name__):
        for name, kind in _fields(model):
            pointer = f"{prefix}/{name}"
            yield name, pointer
            yield from _pointers(
                set(_models_in(kind)), pointer + _index_suffix(kind), above | {model}
            )
