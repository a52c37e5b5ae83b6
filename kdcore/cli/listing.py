"""What there is to choose from, as tables: methods, schemes, networks. Loads no torch."""

import fnmatch
import inspect
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdcore.cli.summary import count
from kdcore.runtime.errors import UserFault
from kdcore.schema.base import Spec
from kdcore.schema.catalog import Architecture, architectures, near
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def methods(name: str | None, console: Console) -> None:
    """All methods, or everything about one. Raises ``UserFault`` for a name that is none."""
    if name is None:
        table = _table("method", "group", "needs", "weight", "when to choose it")
        for each, entry in METHODS.items():
            weight = entry.params.model_fields.get("weight")
            shown = "" if weight is None else f"{weight.default:g}"
            table.add_row(each, entry.group, " ".join(entry.needs), shown, entry.when)
        console.print(table)
        return
    entry = METHODS[_one(name, list(METHODS), "method")]
    _about(entry.params, console)
    _say(console, f"When: {entry.when}")
    _say(console, f"Loss before it is weighted: {entry.formula}")
    _say(console, f"Needs {', '.join(entry.needs)}; label_weight is {entry.default_label_weight:g}")
    if entry.paper:
        _say(console, entry.paper)


def schemes(name: str | None, console: Console) -> None:
    """All schemes, or everything about one. Raises ``UserFault`` for a name that is none."""
    if name is None:
        table = _table("scheme", "teacher", "what it does")
        for each, listed in SCHEMES.items():
            table.add_row(each, listed.teacher, _first(listed.params))
        console.print(table)
        return
    entry = SCHEMES[_one(name, list(SCHEMES), "scheme")]
    _about(entry.params, console)
    _say(console, f"A teacher is {entry.teacher}.")
    if entry.paper:
        _say(console, entry.paper)


def networks(pattern: str | None, console: Console) -> None:
    """Networks whose name contains, or as a pattern with ``*`` is, ``pattern``; one in full.

    Raises ``UserFault`` where there is none."""
    known = architectures()
    wanted = (pattern or "*").lower()
    wild = wanted if any(sign in wanted for sign in "*?[") else f"*{wanted}*"
    found = [entry for name, entry in known.items() if fnmatch.fnmatch(name.lower(), wild)]
    if pattern in known:
        found = [known[pattern]]
    if not found:
        close = f"; near it: {', '.join(near(pattern or ''))}" if near(pattern or "") else ""
        raise UserFault("recipe_invalid", f"no network's name is like {pattern!r}{close}")
    table = _table("network", "parameters", "MACs", "input", "smallest", "taps")
    for entry in found:
        sides = f"{entry.in_channels}x{entry.input_size}²", f"{entry.min_input_size}²"
        numbers = count(entry.num_params), count(entry.macs)
        table.add_row(entry.name, *numbers, *sides, str(len(entry.taps)))
    console.print(table)
    if len(found) == 1:
        _network(found[0], console)


def _network(entry: Architecture, console: Console) -> None:
    for tap in entry.taps:
        _say(console, f"tap {tap.path}: {' x '.join(map(str, tap.shape))}")
    mean, std = entry.normalisation.mean, entry.normalisation.std
    _say(console, f"normalisation: mean {list(mean)}, std {list(std)}")
    _say(console, f"licence: {entry.licence}")
    if entry.pretrained:
        _say(console, f"published weights: {', '.join(entry.pretrained)}")
    if entry.paper:
        _say(console, entry.paper)


def parameters(params: type[Spec]) -> list[tuple[str, str, str, str]]:
    """Name, default, bounds and description of each parameter."""
    properties: dict[str, Any] = params.model_json_schema()["properties"]
    return [
        (name, _default(schema), _bounds(schema), " ".join(schema.get("description", "").split()))
        for name, schema in properties.items()
        if name != "type"
    ]


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _bounds(schema: dict[str, Any]) -> str:
    kinds = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    parts = []
    for kind in kinds:
        allowed = kind.get("enum", [kind["const"]] if "const" in kind else [])
        bounds = [f"{sign} {kind[key]:g}" for key, sign in _BOUNDS.items() if key in kind]
        # A list's entries have the bounds that count.
        inner = [_bounds(kind["items"])] if isinstance(kind.get("items"), dict) else []
        parts += [*map(str, allowed), *bounds, *inner] or [str(kind.get("type", ""))]
    return ", ".join(filter(None, parts))


def _about(params: type[Spec], console: Console) -> None:
    _say(console, inspect.getdoc(params) or "")
    table = _table("parameter", "default", "allowed", "")
    for row in parameters(params):
        table.add_row(*row)
    if table.row_count:
        console.print(table)


def _first(params: type[Spec]) -> str:
    return (inspect.getdoc(params) or "").split("\n\n")[0].replace("\n", " ")


def _one(name: str, known: list[str], what: str) -> str:
    if name not in known:
        raise UserFault(
            "recipe_invalid", f"there is no {what} {name!r}; there are {', '.join(known)}"
        )
    return name


def _table(*titles: str) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in titles:
        # What wraps is prose at the end, never a name.
        table.add_column(title, no_wrap=title == titles[0])
    return table


def _say(console: Console, text: str) -> None:
    console.print(Text(text))
