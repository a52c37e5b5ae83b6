"""The result of a run as a table: student, teacher, and the student without distillation."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from kdcore.schema.report import Evaluation, Latency, Report

_Row = tuple[str, Callable[[Evaluation], str]]


def format_size(num_bytes: float) -> str:
    """Format bytes as ``335 kB``, in powers of ten."""
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.3g} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.3g} GB"


def format_count(count: float) -> str:
    """Format a count as ``83.9 k``, in powers of ten."""
    for unit in ("", " k", " M"):
        if count < 1000:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.3g} G"


def _count(count: int | None) -> str:
    return "" if count is None else format_count(count)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} %"


def _latency(latency: Latency) -> str:
    return f"{latency.p50:.3g} ms{' (unsteady)' if latency.unsteady else ''}"


ROWS: tuple[_Row, ...] = (
    ("top-1", lambda e: _percent(e.top1)),
    ("agreement with the teacher", lambda e: _percent(e.agreement)),
    ("calibration error", lambda e: _percent(e.ece)),
    ("parameters", lambda e: _count(e.num_params)),
    ("MACs", lambda e: _count(e.macs)),
    ("size", lambda e: format_size(e.size_bytes)),
    (
        "latency of one image, p50",
        lambda e: _latency(e.latency_ms),
    ),
    ("images/s at batch 32", lambda e: format_count(e.images_per_s)),
)


def show_report(report: Report, folder: Path, console: Console) -> None:
    """Print the metrics, the gain over the baseline, the verdict, and the files in ``folder``."""
    networks = {
        "student": report.student,
        "teacher": report.teacher,
        "undistilled": report.baseline,
    }
    shown = {name: evaluation for name, evaluation in networks.items() if evaluation is not None}
    table = Table("on the test split", *shown, show_edge=False, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for title, value in ROWS:
        cells = [value(evaluation) for evaluation in shown.values()]
        if any(cells):
            table.add_row(title, *cells)
    console.print(table)
    for line in _lines(report, folder):
        console.print(Text(line), soft_wrap=True)


def _lines(report: Report, folder: Path) -> list[str]:
    lines = [report.seeds.statement] if report.seeds.statement else []
    lines += [f"warning: {finding.sentence}" for finding in report.verdict.findings]
    lines += [f"warning: {sentence}" for sentence in report.warnings]
    for check in report.verdict.checks:
        relation = "met" if check.passed else "not met"
        lines.append(f"{check.name} {check.limit:g}: {relation} (measured: {check.value:.4g})")
    if report.verdict.accepted is not None:
        lines.append("accepted" if report.verdict.accepted else "not accepted")
    lines += [f"{kind} was not exported: {why}" for kind, why in report.refused_exports.items()]
    files = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return [*lines, f"in {folder}: {', '.join(files)}"]
