"""Compare jobs: their settings, the metrics of their reports, and their curves."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple

from fastapi import Query
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.analysis.schemas import Better, Comparison
from api.analysis.stored_values import read_network, read_number, read_objects
from api.http import scoping
from api.http.auth import JobReader
from api.http.problems import InvalidRequestError, NotFoundError
from api.http.responses import json_response
from api.http.routing import v1_router
from kdcore.schema.diff import find_differences
from store import metric_series
from store.database import transaction
from store.tables import Job, Model

router = v1_router("/compare", "analysis")
MIN_JOBS, MAX_JOBS = 2, 10
_NOT_SETTINGS = ("name", "labels", "priority")
CURVES = (
    *("val/top1", "train/loss", "val/agreement", "val/kl_to_teacher", "val/ece", "val/loss"),
    *("train/lr", "train/images_per_s", "train/memory_bytes", "teacher/top1"),
)


class _MetricRow(NamedTuple):
    """One metric of the comparison."""

    key: str
    unit: str
    better: Better | None
    value_of: Callable[[Job], Any]
    comparable_by: Callable[[Job], Any] | None = None
    """A property that must be equal for values to be comparable; None compares all values."""


def _report_value(*path: str) -> Callable[[Job], Any]:
    """The value at a path of a job's report; None where the report has no such path."""

    def read(job: Job) -> Any:
        node: Any = job.result
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        return node

    return read


def _dataset(job: Job) -> Any:
    return job.dataset_id


def _device(job: Job) -> str | None:
    device = _report_value("device")(job)
    return None if device is None else str(device)


def _device_s(job: Job) -> float | None:
    # The value of an unfinished job still grows.
    return job.device_s if job.finished_at else None


_METRICS = (
    _MetricRow("student.top1", "%", "high", _report_value("student", "top1"), _dataset),
    _MetricRow("student.top5", "%", "high", _report_value("student", "top5"), _dataset),
    _MetricRow("student.agreement", "%", "high", _report_value("student", "agreement"), _dataset),
    _MetricRow(
        "student.kl_to_teacher", "nats", "low", _report_value("student", "kl_to_teacher"), _dataset
    ),
    _MetricRow("student.ece", "%", "low", _report_value("student", "ece"), _dataset),
    _MetricRow("teacher.top1", "%", None, _report_value("teacher", "top1")),
    _MetricRow("baseline.top1", "%", None, _report_value("baseline", "top1")),
    _MetricRow("student.num_params", "", "low", _report_value("student", "num_params")),
    _MetricRow("student.macs", "", "low", _report_value("student", "macs")),
    _MetricRow("student.size_bytes", "bytes", "low", _report_value("student", "size_bytes")),
    _MetricRow(
        "student.latency_ms", "ms", "low", _report_value("student", "latency_ms", "p50"), _device
    ),
    _MetricRow(
        "student.images_per_s",
        "images/s",
        "high",
        _report_value("student", "images_per_s"),
        _device,
    ),
    _MetricRow("device_s", "s", "low", _device_s),
)


@router.get("", response_model=Comparison)
def compare_jobs(
    caller: JobReader,
    jobs: Annotated[str, Query(max_length=1000, description="2 to 10 ids, comma-separated")],
    x: Annotated[metric_series.Axis, Query(description="The x axis of the curves")] = "step",
    max_points: Annotated[int, Query(ge=2, le=10_000)] = 500,
) -> Response:
    """Compare jobs: settings that differ, metrics with their difference to the first job, curves.

    A metric that depends on the data set or the device is compared only where these are the same.
    """
    ids = list(dict.fromkeys(jobs.split(",")))
    if not MIN_JOBS <= len(ids) <= MAX_JOBS:
        detail = f"requires {MIN_JOBS} to {MAX_JOBS} different job ids, separated by commas"
        raise InvalidRequestError.of("?jobs", "bad_count", detail)
    with transaction() as session:
        candidates = [scoping.get_or_none(session, Job, job_id, caller) for job_id in ids]
        rows = [job for job in candidates if job is not None]
        if len(rows) < len(ids):
            raise NotFoundError("job")
        return json_response(_compare(session, rows, x, max_points))


def _compare(
    session: Session, jobs: Sequence[Job], axis: metric_series.Axis, max_points: int
) -> dict[str, Any]:
    """The body of a ``Comparison``. Curves have at most ``max_points`` points along ``axis``."""
    metrics = [_compare_metric(row, jobs) for row in _METRICS]
    return {
        "object": "comparison",
        "jobs": [_serialize_job(session, job) for job in jobs],
        "differences": _differences(jobs),
        "metrics": [metric for metric in metrics if metric is not None],
        "curves": _curves(session, jobs, axis, max_points),
    }


def _serialize_job(session: Session, job: Job) -> dict[str, Any]:
    teachers = [str(item.get("model")) for item in read_objects(job.resolved.get("teachers"))]
    architectures_query = select(Model.id, Model.architecture).where(Model.id.in_(teachers))
    architectures = {row[0]: row[1] for row in session.execute(architectures_query)}
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state,
        "kind": job.kind,
        "student": read_network(job.resolved.get("student")),
        "teacher": [architectures.get(teacher, teacher) for teacher in teachers],
        "methods": job.methods,
        "created_at": job.created_at,
        "device": _device(job),
    }


def _differences(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    settings = [{k: v for k, v in job.resolved.items() if k not in _NOT_SETTINGS} for job in jobs]
    # A setting that is null in one job and absent in another does not differ.
    return [
        {"path": path, "values": list(values)}
        for path, values in find_differences(*settings).items()
        if any(value is not None for value in values)
    ]


def _compare_metric(row: _MetricRow, jobs: Sequence[Job]) -> dict[str, Any] | None:
    """The body of a ``ComparedMetric``; None if no job has a value."""
    values = [read_number(row.value_of(job)) for job in jobs]
    measured = {index: value for index, value in enumerate(values) if value is not None}
    if not measured:
        return None
    comparable = (
        row.comparable_by is None or len({row.comparable_by(jobs[index]) for index in measured}) < 2
    )
    first = values[0] if comparable else None
    best = None
    if comparable and row.better is not None:
        best = (max if row.better == "high" else min)(measured.values())
    return {
        "key": row.key,
        "unit": row.unit,
        "better": row.better,
        "values": values,
        "deltas": [_subtract(value, first) for value in values],
        "best": [index for index, value in measured.items() if value == best],
    }


def _subtract(value: float | None, first: float | None) -> float | None:
    return None if value is None or first is None else value - first


def _curves(
    session: Session, jobs: Sequence[Job], axis: metric_series.Axis, max_points: int
) -> dict[str, Any]:
    keys = list(CURVES)
    columns_by_job = [
        metric_series.read(session, job.id, keys, axis, max_points).columns for job in jobs
    ]
    return {
        key: [columns.get(key) for columns in columns_by_job]
        for key in CURVES
        if any(key in columns for columns in columns_by_job)
    }
