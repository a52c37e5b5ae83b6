"""Two recipes side by side: where they differ, and whether the difference is more than chance."""

import json
import math
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdcore.recipes.runner import Order, Watch, perform
from kdcore.runtime.cancellation import Stop
from kdcore.schema.diff import differing
from kdcore.schema.report import Evaluation, Report

_METRICS = ("top1", "agreement", "num_params", "macs", "size_bytes", "latency_ms")
_NOT_SETTINGS = ("name", "dataset", "teachers")
"""Names, and ids that are made of the files' bytes: the recipes' own words say more."""


class Side(NamedTuple):
    """One recipe's outcome."""

    order: Order
    report: Report
    job: dict[str, Any]
    """Resolved, every default explicit."""
    data: dict[str, Any]
    """From the model card: digest and counts."""


def carried_out(order: Order, watch: Watch, stop: Stop) -> Side:
    """Run a recipe, or take what its folder has of it."""
    report = Report.model_validate(perform(order, watch, stop))
    asked = json.loads((order.out / ".work" / "request.json").read_text(encoding="utf-8"))
    card = json.loads((order.out / "model_card.json").read_text(encoding="utf-8"))
    return Side(order, report, asked["job"], card["data"])


def compared(a: Side, b: Side) -> dict[str, Any]:
    """Settings that differ, metrics of both with their difference b - a, and what it is worth."""
    settings = differing(_settings(a), _settings(b))
    return {
        "a": str(a.order.out),
        "b": str(b.order.out),
        "settings": {name: {"a": x, "b": y} for name, (x, y) in settings.items()},
        "metrics": {name: _row(_value(a, name), _value(b, name)) for name in _METRICS},
        "significance": significance(a, b),
    }


def significance(a: Side, b: Side) -> dict[str, Any]:
    """How large the difference of top-1 is against its standard error, in points.

    By the seeds' deviation where both have several, else by the binomial one of two independent
    samples of the test split's size, which is too careful where both saw the same images. Above
    1.96 errors it is more than chance at 95 %.
    """
    if a.data["digest"] != b.data["digest"]:
        return {"statement": "measured on different data: the numbers cannot be compared"}
    first, second = a.report.seeds.student_top1, b.report.seeds.student_top1
    if first.std is not None and second.std is not None:
        seeds = a.report.seeds.num_seeds, b.report.seeds.num_seeds
        difference, basis = second.mean - first.mean, "seeds"
        error = math.sqrt(first.std**2 / seeds[0] + second.std**2 / seeds[1])
        of = f"mean of {seeds[0]} and {seeds[1]} seeds"
    else:
        images = a.data["counts"]["test"]
        difference, basis = b.report.student.top1 - a.report.student.top1, "binomial"
        shares = (a.report.student.top1 / 100, b.report.student.top1 / 100)
        error = 100 * math.sqrt(sum(share * (1 - share) for share in shares) / images)
        of = f"{images} test images"
    found = {"basis": basis, "top1_difference": difference, "standard_error": error}
    return found | {"statement": _statement(difference, error, of)}


def _statement(difference: float, error: float, of: str) -> str:
    if difference == 0:
        return f"the same top-1 ({of}, standard error {error:.2f} points)"
    times = abs(difference) / error if error else math.inf
    verdict = "more than chance" if times > 1.96 else "within chance"
    return (
        f"top-1 differs by {difference:+.2f} points, {times:.1f} standard errors of {error:.2f} "
        f"({of}): {verdict}"
    )


def show(found: dict[str, Any], console: Console) -> None:
    """The comparison as two tables and a sentence."""
    settings = Table("differs", found["a"], found["b"], show_edge=False, pad_edge=False)
    for name, values in found["settings"].items():
        settings.add_row(Text(name), *(Text(json.dumps(values[side])) for side in "ab"))
    if settings.row_count:
        console.print(settings)
    else:
        console.print("the settings are the same")
    console.print()
    titles = ("on the test split", found["a"], found["b"], "difference")
    table = Table(*titles, show_edge=False, pad_edge=False)
    for name, row in found["metrics"].items():
        if row["a"] is not None or row["b"] is not None:
            cells = (_number(row[key], sign=key == "difference") for key in row)
            table.add_row(name, *cells)
    console.print(table)
    console.print(Text(found["significance"]["statement"]), soft_wrap=True)


def _settings(side: Side) -> dict[str, Any]:
    body = side.order.body if isinstance(side.order.body, dict) else {}
    own = {name: body[name] for name in ("dataset", "teachers") if name in body}
    return {k: v for k, v in side.job.items() if k not in _NOT_SETTINGS} | own


def _value(side: Side, name: str) -> float | None:
    student: Evaluation = side.report.student
    return student.latency_ms.p50 if name == "latency_ms" else getattr(student, name)


def _row(a: float | None, b: float | None) -> dict[str, float | None]:
    return {"a": a, "b": b, "difference": None if a is None or b is None else b - a}


def _number(value: float | None, *, sign: bool) -> str:
    if value is None:
        return ""
    shown = f"{value:+,}" if sign else f"{value:,}"
    return shown if isinstance(value, int) else f"{value:{'+' if sign else ''}.3f}"
