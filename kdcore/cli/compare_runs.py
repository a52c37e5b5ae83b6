"""Two recipes side by side: where they differ, and whether the difference is more than chance."""

import json
import math
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdcore.recipes.runner import EventCallback, RunSpec, run_recipe
from kdcore.runtime.cancellation import CancellationToken
from kdcore.schema.diff import find_differences
from kdcore.schema.report import Evaluation, Report

_METRICS = ("top1", "agreement", "num_params", "macs", "size_bytes", "latency_ms")
_NOT_SETTINGS = ("name", "dataset", "teachers")
"""Names, and ids that are made of the files' bytes: the recipes' own words say more."""


class ComparedRun(NamedTuple):
    """One recipe's outcome."""

    run_spec: RunSpec
    report: Report
    job: dict[str, Any]
    """Resolved, every default explicit."""
    data: dict[str, Any]
    """From the model card: digest and counts."""


def load_or_run(
    run_spec: RunSpec, on_event: EventCallback, cancellation: CancellationToken
) -> ComparedRun:
    """Run a recipe, or take what its folder has of it."""
    report = Report.model_validate(run_recipe(run_spec, on_event, cancellation))
    request = json.loads((run_spec.out / ".work" / "request.json").read_text(encoding="utf-8"))
    card = json.loads((run_spec.out / "model_card.json").read_text(encoding="utf-8"))
    return ComparedRun(run_spec, report, request["job"], card["data"])


def compare_runs(a: ComparedRun, b: ComparedRun) -> dict[str, Any]:
    """Settings that differ, metrics of both with their difference b - a, and what it is worth."""
    settings = find_differences(_settings(a), _settings(b))
    return {
        "a": str(a.run_spec.out),
        "b": str(b.run_spec.out),
        "settings": {name: {"a": x, "b": y} for name, (x, y) in settings.items()},
        "metrics": {name: _row(_value(a, name), _value(b, name)) for name in _METRICS},
        "significance": significance(a, b),
    }


def significance(a: ComparedRun, b: ComparedRun) -> dict[str, Any]:
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
    result = {"basis": basis, "top1_difference": difference, "standard_error": error}
    return result | {"statement": _statement(difference, error, of)}


def _statement(difference: float, error: float, basis: str) -> str:
    if difference == 0:
        return f"the same top-1 ({basis}, standard error {error:.2f} points)"
    times = abs(difference) / error if error else math.inf
    verdict = "more than chance" if times > 1.96 else "within chance"
    return (
        f"top-1 differs by {difference:+.2f} points, {times:.1f} standard errors of {error:.2f} "
        f"({basis}): {verdict}"
    )


def show_comparison(comparison: dict[str, Any], console: Console) -> None:
    """The comparison as two tables and a sentence."""
    settings = Table("differs", comparison["a"], comparison["b"], show_edge=False, pad_edge=False)
    for name, values in comparison["settings"].items():
        settings.add_row(Text(name), *(Text(json.dumps(values[side])) for side in "ab"))
    if settings.row_count:
        console.print(settings)
    else:
        console.print("the settings are the same")
    console.print()
    titles = ("on the test split", comparison["a"], comparison["b"], "difference")
    table = Table(*titles, show_edge=False, pad_edge=False)
    for name, row in comparison["metrics"].items():
        if row["a"] is not None or row["b"] is not None:
            cells = (_format_number(row[key], sign=key == "difference") for key in row)
            table.add_row(name, *cells)
    console.print(table)
    console.print(Text(comparison["significance"]["statement"]), soft_wrap=True)


def _settings(run: ComparedRun) -> dict[str, Any]:
    body = run.run_spec.body if isinstance(run.run_spec.body, dict) else {}
    recipe_fields = {name: body[name] for name in ("dataset", "teachers") if name in body}
    return {k: v for k, v in run.job.items() if k not in _NOT_SETTINGS} | recipe_fields


def _value(run: ComparedRun, name: str) -> float | None:
    student: Evaluation = run.report.student
    return student.latency_ms.p50 if name == "latency_ms" else getattr(student, name)


def _row(a: float | None, b: float | None) -> dict[str, float | None]:
    return {"a": a, "b": b, "difference": None if a is None or b is None else b - a}


def _format_number(value: float | None, *, sign: bool) -> str:
    if value is None:
        return ""
    shown = f"{value:+,}" if sign else f"{value:,}"
    return shown if isinstance(value, int) else f"{value:{'+' if sign else ''}.3f}"
