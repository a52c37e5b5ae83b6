"""Jobs side by side: what differs in their settings, in their outcome, and their curves."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import JobReader
from api.http.problems import InvalidRequestError, NotFoundError
from api.http.responses import json_response
from api.http.router import v1_router
from kdcore.schema.diff import find_differences
from kdcore.schema.job import ResolvedStudent
from kdcore.schema.validation.errors import ValidationIssue
from store import metric_series as metrics
from store.database import transaction
from store.tables import Job, Model

compare_router = v1_router("/compare", "insight")

MIN_JOBS, MAX_JOBS = 2, 10
_NOT_SETTINGS = ("name", "labels", "priority")
CURVES = (
    *("val/top1", "train/loss", "val/agreement", "val/kl_to_teacher", "val/ece", "val/loss"),
    *("train/lr", "train/images_per_s", "train/memory_bytes", "teacher/top1"),
)
Better = Literal["high", "low"]


class ComparedJob(BaseModel):
    """One of the jobs."""

    id: str
    name: str
    state: str
    kind: str
    student: str
    teacher: list[str] = Field(description="The teachers' architectures")
    methods: list[str]
    created_at: str
    device: str | None = Field(description="Where latency was measured; null without a report")


class SettingDifference(BaseModel):
    """A setting that is not the same in all."""

    path: str
    values: list[Any] = Field(description="In the order of the jobs; null where one has none")


class ComparedMetric(BaseModel):
    """One number of each job."""

    key: str
    unit: str
    better: Better | None
    values: list[float | None]
    deltas: list[float | None] = Field(description="To the first job")
    best: list[int] = Field(description="Which of the jobs have the best value")


class Comparison(BaseModel):
    """Jobs side by side, in the order that was asked for."""

    object: Literal["comparison"]
    jobs: list[ComparedJob]
    differences: list[SettingDifference]
    metrics: list[ComparedMetric]
    curves: dict[str, list[dict[str, list[float | None]] | None]] = Field(
        description="By key: one curve for each job, null where it has none"
    )


class _MetricRow(NamedTuple):
    """One line of the table of metrics."""

    key: str
    unit: str
    better: Better | None
    value_of: Callable[[Job], Any]
    comparable_by: Callable[[Job], Any] | None = None
    """What must be the same for two numbers to be compared at all; None compares any."""


def _report_value(network: str, name: str) -> Callable[[Job], Any]:
    return lambda job: ((job.result or {}).get(network) or {}).get(name)


def _data(job: Job) -> Any:
    return job.dataset_id


def _device(job: Job) -> Any:
    return (job.result or {}).get("device")


def _latency(job: Job) -> Any:
    return ((job.result or {}).get("student") or {}).get("latency_ms", {}).get("p50")


_ROWS = (
    _MetricRow("student.top1", "%", "high", _report_value("student", "top1"), _data),
    _MetricRow("student.top5", "%", "high", _report_value("student", "top5"), _data),
    _MetricRow("student.agreement", "%", "high", _report_value("student", "agreement"), _data),
    _MetricRow(
        "student.kl_to_teacher", "nats", "low", _report_value("student", "kl_to_teacher"), _data
    ),
    _MetricRow("student.ece", "%", "low", _report_value("student", "ece"), _data),
    _MetricRow("teacher.top1", "%", None, _report_value("teacher", "top1")),
    _MetricRow("baseline.top1", "%", None, _report_value("baseline", "top1")),
    _MetricRow("student.num_params", "", "low", _report_value("student", "num_params")),
    _MetricRow("student.macs", "", "low", _report_value("student", "macs")),
    _MetricRow("student.size_bytes", "bytes", "low", _report_value("student", "size_bytes")),
    _MetricRow("student.latency_ms", "ms", "low", _latency, _device),
    _MetricRow(
        "student.images_per_s",
        "images/s",
        "high",
        _report_value("student", "images_per_s"),
        _device,
    ),
    # Of a job that lives the last runs alone would be told: nothing yet.
    _MetricRow("device_s", "s", "low", lambda job: job.device_s if job.finished_at else None),
)


@compare_router.get("", response_model=Comparison)
def compare_jobs(
    caller: JobReader,
    jobs: Annotated[str, Query(max_length=1000, description="2 to 10 ids, comma-separated")],
    x: Annotated[metrics.Axis, Query(description="What curves are given over")] = "step",
    max_points: Annotated[int, Query(ge=2, le=10_000)] = 500,
) -> Response:
    """Differing settings only, results with their distance to the first job's, aligned curves."""
    ids = list(dict.fromkeys(jobs.split(",")))
    if not MIN_JOBS <= len(ids) <= MAX_JOBS:
        detail = f"name {MIN_JOBS} to {MAX_JOBS} different jobs, separated by commas"
        raise InvalidRequestError(
            [ValidationIssue(pointer="?jobs", code="bad_count", detail=detail)]
        )
    with transaction() as session:
        candidates = [scoping.get_or_none(session, Job, job_id, caller) for job_id in ids]
        rows = [job for job in candidates if job is not None]
        if len(rows) < len(ids):
            raise NotFoundError("job")
        return json_response(
            {
                "object": "comparison",
                "jobs": [_serialize_job(session, row) for row in rows],
                "differences": _differences(rows),
                "metrics": [line for metric_row in _ROWS if (line := _metric(metric_row, rows))],
                "curves": _curves(session, rows, x, max_points),
            }
        )


def _serialize_job(session: Session, row: Job) -> dict[str, Any]:
    teachers = [teacher["model"] for teacher in row.resolved.get("teachers", ())]
    architectures_query = select(Model.id, Model.architecture).where(Model.id.in_(teachers))
    names = {teacher[0]: teacher[1] for teacher in session.execute(architectures_query)}
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "kind": row.kind,
        "student": ResolvedStudent.model_validate(row.resolved["student"]).network,
        "teacher": [names.get(teacher, teacher) for teacher in teachers],
        "methods": row.methods,
        "created_at": row.created_at,
        "device": (row.result or {}).get("device"),
    }


def _differences(rows: Sequence[Job]) -> list[dict[str, Any]]:
    settings = [{k: v for k, v in row.resolved.items() if k not in _NOT_SETTINGS} for row in rows]
    # What one job has not and another has as null is nothing in both.
    differing_settings = {
        k: v for k, v in find_differences(*settings).items() if any(one is not None for one in v)
    }
    return [{"path": path, "values": list(values)} for path, values in differing_settings.items()]


def _metric(row: _MetricRow, jobs: Sequence[Job]) -> dict[str, Any] | None:
    """The line; None where no job has the number."""
    values = [row.value_of(job) for job in jobs]
    known = [value for value in values if value is not None]
    if not known:
        return None
    measured = [job for job, value in zip(jobs, values, strict=True) if value is not None]
    incomparable = (
        row.comparable_by is not None and len({row.comparable_by(job) for job in measured}) > 1
    )
    # Of other images, or on another device, a number is no better and no worse.
    first = None if incomparable else values[0]
    rank = None if incomparable or row.better is None else max if row.better == "high" else min
    best = rank(known) if rank else None
    return {
        "key": row.key,
        "unit": row.unit,
        "better": row.better,
        "values": values,
        "deltas": [None if None in (first, value) else value - first for value in values],
        "best": [
            index for index, value in enumerate(values) if value is not None and value == best
        ],
    }


def _curves(
    session: Session, rows: Sequence[Job], axis: metrics.Axis, max_points: int
) -> dict[str, Any]:
    keys = list(CURVES)
    columns_by_job = [metrics.read(session, row.id, keys, axis, max_points).columns for row in rows]
    return {
        key: [columns.get(key) for columns in columns_by_job]
        for key in CURVES
        if any(key in e for e in columns_by_job)
    }
