"""Jobs side by side: what differs in their settings, in their outcome, and their curves."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import Reader
from api.http.problems import Invalid, NotFound
from api.http.responses import reply
from api.http.router import router
from kdcore.schema.diff import differing
from kdcore.schema.job import ResolvedStudent
from kdcore.schema.validation.errors import Fault
from store import metric_series as metrics
from store.database import transaction
from store.tables import Job, Model

compare = router("/compare", "insight")

FEWEST, MOST = 2, 10
_NOT_SETTINGS = ("name", "labels", "priority", "chosen")
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


class Difference(BaseModel):
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
    differences: list[Difference]
    metrics: list[ComparedMetric]
    curves: dict[str, list[dict[str, list[float | None]] | None]] = Field(
        description="By key: one curve for each job, null where it has none"
    )


class _Row(NamedTuple):
    """One line of the table of metrics."""

    key: str
    unit: str
    better: Better | None
    read: Callable[[Job], Any]
    within: Callable[[Job], Any] | None = None
    """What must be the same for two numbers to be compared at all; None compares any."""


def _of(who: str, name: str) -> Callable[[Job], Any]:
    return lambda job: ((job.result or {}).get(who) or {}).get(name)


def _data(job: Job) -> Any:
    return job.dataset_id


def _device(job: Job) -> Any:
    return (job.result or {}).get("device")


def _latency(job: Job) -> Any:
    return ((job.result or {}).get("student") or {}).get("latency_ms", {}).get("p50")


_ROWS = (
    _Row("student.top1", "%", "high", _of("student", "top1"), _data),
    _Row("student.top5", "%", "high", _of("student", "top5"), _data),
    _Row("student.agreement", "%", "high", _of("student", "agreement"), _data),
    _Row("student.kl_to_teacher", "nats", "low", _of("student", "kl_to_teacher"), _data),
    _Row("student.ece", "%", "low", _of("student", "ece"), _data),
    _Row("teacher.top1", "%", None, _of("teacher", "top1")),
    _Row("baseline.top1", "%", None, _of("baseline", "top1")),
    _Row("student.num_params", "", "low", _of("student", "num_params")),
    _Row("student.macs", "", "low", _of("student", "macs")),
    _Row("student.size_bytes", "bytes", "low", _of("student", "size_bytes")),
    _Row("student.latency_ms", "ms", "low", _latency, _device),
    _Row("student.images_per_s", "images/s", "high", _of("student", "images_per_s"), _device),
    # Of a job that lives the last runs alone would be told: nothing yet.
    _Row("device_s", "s", "low", lambda job: job.device_s if job.finished_at else None),
)


@compare.get("", response_model=Comparison)
def compare_jobs(
    caller: Reader,
    jobs: Annotated[str, Query(max_length=1000, description="2 to 10 ids, comma-separated")],
    x: Annotated[metrics.Axis, Query(description="What curves are given over")] = "step",
    max_points: Annotated[int, Query(ge=2, le=10_000)] = 500,
) -> Response:
    """Differing settings only, results with their distance to the first job's, aligned curves."""
    ids = list(dict.fromkeys(jobs.split(",")))
    if not FEWEST <= len(ids) <= MOST:
        detail = f"name {FEWEST} to {MOST} different jobs, separated by commas"
        raise Invalid([Fault(pointer="?jobs", code="bad_count", detail=detail)])
    with transaction() as session:
        found = [scoping.find(session, Job, job_id, caller) for job_id in ids]
        rows = [job for job in found if job is not None]
        if len(rows) < len(ids):
            raise NotFound("job")
        return reply(
            {
                "object": "comparison",
                "jobs": [_job(session, row) for row in rows],
                "differences": _differences(rows),
                "metrics": [line for each in _ROWS if (line := _metric(each, rows))],
                "curves": _curves(session, rows, x, max_points),
            }
        )


def _job(session: Session, row: Job) -> dict[str, Any]:
    teachers = [each["model"] for each in row.resolved.get("teachers", ())]
    found = select(Model.id, Model.architecture).where(Model.id.in_(teachers))
    names = {each[0]: each[1] for each in session.execute(found)}
    return {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "kind": row.kind,
        "student": ResolvedStudent.model_validate(row.resolved["student"]).network,
        "teacher": [names.get(each, each) for each in teachers],
        "methods": row.methods,
        "created_at": row.created_at,
        "device": (row.result or {}).get("device"),
    }


def _differences(rows: Sequence[Job]) -> list[dict[str, Any]]:
    settings = [{k: v for k, v in row.resolved.items() if k not in _NOT_SETTINGS} for row in rows]
    # What one job has not and another has as null is nothing in both.
    found = {k: v for k, v in differing(*settings).items() if any(one is not None for one in v)}
    return [{"path": path, "values": list(values)} for path, values in found.items()]


def _metric(row: _Row, jobs: Sequence[Job]) -> dict[str, Any] | None:
    """The line; None where no job has the number."""
    values = [row.read(job) for job in jobs]
    known = [value for value in values if value is not None]
    if not known:
        return None
    measured = [job for job, value in zip(jobs, values, strict=True) if value is not None]
    apart = row.within is not None and len({row.within(job) for job in measured}) > 1
    # Of other images, or on another device, a number is no better and no worse.
    first = None if apart else values[0]
    rank = None if apart or row.better is None else max if row.better == "high" else min
    best = rank(known) if rank else None
    return {
        "key": row.key,
        "unit": row.unit,
        "better": row.better,
        "values": values,
        "deltas": [None if None in (first, value) else value - first for value in values],
        "best": [at for at, value in enumerate(values) if value is not None and value == best],
    }


def _curves(
    session: Session, rows: Sequence[Job], axis: metrics.Axis, max_points: int
) -> dict[str, Any]:
    keys = list(CURVES)
    read = [metrics.read(session, row.id, keys, axis, max_points).columns for row in rows]
    return {key: [each.get(key) for each in read] for key in CURVES if any(key in e for e in read)}
