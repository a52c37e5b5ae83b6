"""Compare the settings and metrics of two recipes, with the significance of the difference."""

import json
import math
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdcore.recipes.run_directory import RunDirectory
from kdcore.recipes.runner import EventCallback, RunSpec, run_recipe
from kdcore.runtime.cancellation import CancellationToken
from kdcore.schema.diff import find_differences
from kdcore.schema.report import Evaluation, Report

_METRICS = ("top1", "agreement", "num_params", "macs", "size_bytes", "latency_ms")
_FILE_FIELDS = ("dataset", "teachers", "model", "from")
"""Fields that name files; the recorded request has digests of the files in their place."""


class ComparedRun(NamedTuple):
    """The result of one recipe."""

    run_spec: RunSpec
    report: Report
    job: dict[str, Any]
    """The resolved job, every default explicit."""
    data: dict[str, Any]
    """The data section of the model card: digest and counts."""


def load_or_run(
    run_spec: RunSpec, on_event: EventCallback, cancellation: CancellationToken
) -> ComparedRun:
    """Run a recipe, or load its finished run, and return the result."""
    report = Report.model_validate(run_recipe(run_spec, on_event, cancellation))
    request = RunDirectory(run_spec.out).read_request() or {}
    card = json.loads((run_spec.out / "model_card.json").read_text(encoding="utf-8"))
    return ComparedRun(run_spec, report, request["job"], card["data"])


def compare_runs(a: ComparedRun, b: ComparedRun) -> dict[str, Any]:
    """Return differing settings, both metrics with the difference b - a, and its significance."""
    settings = find_differences(_settings(a), _settings(b))
    return {
        "a": str(a.run_spec.out),
        "b": str(b.run_spec.out),
        "settings": {name: {"a": x, "b": y} for name, (x, y) in settings.items()},
        "metrics": {name: _row(_value(a, name), _value(b, name)) for name in _METRICS},
        "significance": significance(a, b),
    }


def significance(a: ComparedRun, b: ComparedRun) -> dict[str, Any]:
    """Compare the difference of top-1 (b - a, in points) with its standard error.

    If both runs have several seeds, the error comes from the deviation over the seeds. Otherwise it
    is the binomial error of two independent test splits, which is too large if both runs share
    the test images. A difference above 1.96 standard errors is significant at 95 %.
    """
    if a.data["digest"] != b.data["digest"]:
        return {"statement": "the runs used different data and cannot be compared"}
    first, second = a.report.seeds.student_top1, b.report.seeds.student_top1
    if first.std is not None and second.std is not None:
        seeds = a.report.seeds.num_seeds, b.report.seeds.num_seeds
        difference, basis = second.mean - first.mean, "seeds"
        error = math.sqrt(first.std**2 / seeds[0] + second.std**2 / seeds[1])
        basis_text = f"mean of {seeds[0]} and {seeds[1]} seeds"
    else:
        images = a.data["counts"]["test"]
        difference, basis = b.report.student.top1 - a.report.student.top1, "binomial"
        shares = (a.report.student.top1 / 100, b.report.student.top1 / 100)
        error = 100 * math.sqrt(sum(share * (1 - share) for share in shares) / images)
        basis_text = f"{images} test images"
    result = {"basis": basis, "top1_difference": difference, "standard_error": error}
    return result | {"statement": _statement(difference, error, basis_text)}


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
    """Print the comparison as two tables and a sentence."""
    settings = Table("setting", comparison["a"], comparison["b"], show_edge=False, pad_edge=False)
    for name, values in comparison["settings"].items():
        settings.add_row(Text(name), *(Text(json.dumps(values[side])) for side in "ab"))
    if settings.row_count:
        console.print(settings)
    else:
        console.print("The settings are equal.")
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
    file_fields = {name: body[name] for name in _FILE_FIELDS if name in body}
    return {name: value for name, value in run.job.items() if name != "name"} | file_fields


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
