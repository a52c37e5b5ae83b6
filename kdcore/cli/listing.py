"""Tables of methods, schemes and networks. Must not load torch."""

import fnmatch
import inspect
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdcore.cli.summary import format_count
from kdcore.runtime.errors import UserError
from kdcore.schema.base import FrozenModel
from kdcore.schema.catalog import Architecture, architectures, similar_architectures
from kdcore.schema.methods import METHODS
from kdcore.schema.schemes import SCHEMES

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def show_methods(name: str | None, console: Console) -> None:
    """Print all methods, or everything about one. Raises ``UserError`` for an unknown name."""
    if name is None:
        table = _table("method", "group", "needs", "weight", "when to choose it")
        for method, entry in METHODS.items():
            weight = entry.model_fields.get("weight")
            shown = "" if weight is None else f"{weight.default:g}"
            table.add_row(method, entry.group, " ".join(entry.needs), shown, entry.when_to_use)
        console.print(table)
        return
    entry = METHODS[_check_name(name, list(METHODS), "method")]
    _show_parameters(entry, console)
    _print_text(console, f"When: {entry.when_to_use}")
    _print_text(console, f"Loss before it is weighted: {entry.formula}")
    _print_text(
        console, f"Needs {', '.join(entry.needs)}; label_weight is {entry.default_label_weight:g}"
    )
    if entry.paper:
        _print_text(console, entry.paper)


def show_schemes(name: str | None, console: Console) -> None:
    """Print all schemes, or everything about one. Raises ``UserError`` for an unknown name."""
    if name is None:
        table = _table("scheme", "teacher", "what it does")
        for scheme, listed in SCHEMES.items():
            table.add_row(scheme, listed.teacher, _first_paragraph(listed))
        console.print(table)
        return
    entry = SCHEMES[_check_name(name, list(SCHEMES), "scheme")]
    _show_parameters(entry, console)
    _print_text(console, f"A teacher is {entry.teacher}.")
    if entry.paper:
        _print_text(console, entry.paper)


def show_networks(pattern: str | None, console: Console) -> None:
    """Print the networks whose name contains ``pattern`` or, with ``*``, ``?``, ``[``, matches it.

    A single network is printed with its feature layers. Raises ``UserError`` without a match.
    """
    known = architectures()
    query = (pattern or "*").lower()
    wildcard = query if any(character in query for character in "*?[") else f"*{query}*"
    matches = [entry for name, entry in known.items() if fnmatch.fnmatch(name.lower(), wildcard)]
    if pattern in known:
        matches = [known[pattern]]
    if not matches:
        similar = similar_architectures(pattern or "")
        raise UserError(
            "job_invalid",
            f"no network matches {pattern!r}",
            hint=f"Similar names: {', '.join(similar)}" if similar else None,
        )
    table = _table("network", "parameters", "MACs", "input", "smallest", "taps")
    for entry in matches:
        sides = f"{entry.in_channels}x{entry.input_size}²", f"{entry.min_input_size}²"
        numbers = format_count(entry.num_params), format_count(entry.macs)
        table.add_row(entry.name, *numbers, *sides, str(len(entry.taps)))
    console.print(table)
    if len(matches) == 1:
        _show_network(matches[0], console)


def _show_network(entry: Architecture, console: Console) -> None:
    for tap in entry.taps:
        _print_text(console, f"tap {tap.path}: {' x '.join(map(str, tap.shape))}")
    mean, std = entry.normalization.mean, entry.normalization.std
    _print_text(console, f"normalization: mean {list(mean)}, std {list(std)}")
    _print_text(console, f"license: {entry.license}")
    if entry.pretrained:
        _print_text(console, f"published weights: {', '.join(entry.pretrained)}")
    if entry.paper:
        _print_text(console, entry.paper)


def parameters(params: type[FrozenModel]) -> list[tuple[str, str, str, str]]:
    """Return name, default, bounds and description of each parameter, as texts."""
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
    options = schema.get("anyOf") or schema.get("oneOf") or [schema]
    kinds = [option for option in options if option.get("type") != "null"]
    parts = []
    for kind in kinds:
        allowed = kind.get("enum", [kind["const"]] if "const" in kind else [])
        bounds = [f"{symbol} {kind[key]:g}" for key, symbol in _BOUNDS.items() if key in kind]
        # The bounds of a list are those of its items.
        inner = [_bounds(kind["items"])] if isinstance(kind.get("items"), dict) else []
        parts += [*map(str, allowed), *bounds, *inner] or [str(kind.get("type", ""))]
    return ", ".join(filter(None, parts))


def _show_parameters(params: type[FrozenModel], console: Console) -> None:
    _print_text(console, inspect.getdoc(params) or "")
    table = _table("parameter", "default", "allowed", "")
    for row in parameters(params):
        table.add_row(*row)
    if table.row_count:
        console.print(table)


def _first_paragraph(params: type[FrozenModel]) -> str:
    return (inspect.getdoc(params) or "").split("\n\n")[0].replace("\n", " ")


def _check_name(name: str, known: list[str], kind: str) -> str:
    if name not in known:
        raise UserError("job_invalid", f"unknown {kind} {name!r}; known are {', '.join(known)}")
    return name


def _table(*titles: str) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in titles:
        # Only the description may wrap: a name must stay searchable.
        table.add_column(title, no_wrap=title == titles[0])
    return table


def _print_text(console: Console, text: str) -> None:
    console.print(Text(text))
