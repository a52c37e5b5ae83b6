"""The frontier: of all that was taught on a data set, what nothing else beats."""

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import BaseModel, Field
from sqlalchemy import Double, cast, select
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import scoping
from api.http.auth import JobReader
from api.http.pagination import Page
from api.http.responses import json_response
from api.http.router import v1_router
from kdcore.schema.job import ResolvedStudent
from store.database import read_session
from store.tables import Dataset, Job, Model

frontier_router = v1_router("/frontier", "insight")

XMetric = Literal["latency_ms", "size_bytes", "macs"]
YMetric = Literal["top1", "agreement"]
_MAX_JOBS = 10_000
"""Jobs that are looked at, the newest first."""


class FrontierPoint(BaseModel):
    """A network that was measured on the data set's test images."""

    job: str = Field(description="The job that taught it; a teacher's: the first that it taught")
    name: str
    role: Literal["student", "teacher"]
    model: str | None = Field(description="A teacher's id")
    architecture: str
    methods: list[str]
    x: float
    y: float
    on_frontier: bool = Field(description="Whether no other student is as small and as good")
    device: str = Field(description="Where latency was measured: others are not comparable")
    created_at: str
    top1: float
    agreement: float | None
    latency_ms: float
    size_bytes: int
    macs: int
    num_params: int


class Frontier(Page):
    """Students and their teachers, by x."""

    object: Literal["frontier"]
    dataset: str
    x: XMetric
    y: YMetric
    data: list[FrontierPoint]
    total: int = Field(description="Networks that there are; `limit` may leave out dominated ones")


@frontier_router.get("", response_model=Frontier)
def get_frontier(
    caller: JobReader,
    dataset: Annotated[str, Query(max_length=64)],
    x: XMetric = "latency_ms",
    y: YMetric = "top1",
    limit: Annotated[int, Query(ge=1, le=2000)] = 500,
) -> Response:
    """Accuracy or agreement against latency, size or multiply-accumulates, on the test split.

    Among students alone is decided who is on the frontier; with latency, on each device by itself.
    """
    with read_session() as session:
        row = scoping.get_or_404(session, Dataset, dataset, caller)
        points = _points(session, row.id, x, y)
    students = [point for point in points if point["role"] == "student"]
    for device in {point["device"] for point in students} if x == "latency_ms" else {None}:
        _mark_frontier([point for point in students if device in (None, point["device"])])
    # The newest dominated ones fill what the frontier and the teachers leave.
    shown = sorted(points, key=_is_dominated)[:limit]
    return json_response(
        {
            "object": "frontier",
            "dataset": row.id,
            "x": x,
            "y": y,
            "data": sorted(shown, key=lambda point: (point["x"], -point["y"])),
            "total": len(points),
            "next_cursor": None,
        }
    )


def _is_dominated(point: dict[str, Any]) -> bool:
    return point["role"] == "student" and not point["on_frontier"]


def _mark_frontier(students: Sequence[dict[str, Any]]) -> None:
    """Whoever is better than all that are smaller is on the frontier; of equals the first."""
    best = float("-inf")
    for point in sorted(students, key=lambda student: (student["x"], -student["y"])):
        point["on_frontier"] = point["y"] > best
        best = max(best, point["y"])


_METRICS = ("top1", "agreement", "size_bytes", "macs", "num_params")


def _report_columns(role: str) -> list[Any]:
    """A network's numbers by themselves: a whole report has matrices that nobody wants here."""
    columns = [cast(Job.result[(role, name)].astext, Double) for name in _METRICS]
    return [*columns, cast(Job.result[(role, "latency_ms", "p50")].astext, Double)]


def _points(session: Session, dataset_id: str, x: XMetric, y: YMetric) -> list[dict[str, Any]]:
    job_columns = (
        *(Job.id, Job.name, Job.kind, Job.methods, Job.created_at),
        *(Job.resolved["student"], Job.resolved["teachers"], Job.result["device"].astext),
    )
    query = (
        select(*job_columns, *_report_columns("student"), *_report_columns("teacher"))
        .where(
            Job.dataset_id == dataset_id, Job.queue == scoping.TRAIN_QUEUE, Job.state == "succeeded"
        )
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(_MAX_JOBS)
    )
    count = len(_METRICS) + 1
    points: list[dict[str, Any]] = []
    teacher_points: dict[str, dict[str, Any]] = {}
    rows: Iterable[Sequence[Any]] = session.execute(query)
    for row in rows:
        job_values, numbers = row[: len(job_columns)], row[len(job_columns) :]
        if job_values[2] == "distill":
            points += _point(job_values, "student", numbers[:count], x, y)
        teachers: list[Any] = job_values[6] or []
        if len(teachers) == 1:
            # The newest come first: what stays is the first job that it taught.
            for point in _point(job_values, "teacher", numbers[count:], x, y):
                teacher_points[teachers[0]["model"]] = point
    return [*points, *_teachers(session, teacher_points)]


def _teachers(
    session: Session, teacher_points: dict[str, dict[str, Any]]
) -> Iterable[dict[str, Any]]:
    """Each single teacher once, as the first job that it taught measured it."""
    for model in session.scalars(select(Model).where(Model.id.in_(teacher_points))):
        named = {"name": model.name, "model": model.id, "architecture": model.architecture}
        yield teacher_points[model.id] | named | {"methods": []}


def _point(
    job_values: Sequence[Any], role: str, values: Sequence[float | None], x: XMetric, y: YMetric
) -> list[dict[str, Any]]:
    """The network as a point; none where it lacks one of the two numbers."""
    numbers = dict(zip((*_METRICS, "latency_ms"), values, strict=True))
    if numbers[x] is None or numbers[y] is None:
        return []
    job, name, _, methods, created_at, student, _, device = job_values
    point = {
        "job": job,
        "name": name,
        "role": role,
        "model": None,
        "architecture": ResolvedStudent.model_validate(student).network,
        "methods": methods,
        "x": numbers[x],
        "y": numbers[y],
        "on_frontier": False,
        "device": device,
        "created_at": created_at,
    }
    integer_metrics = ("size_bytes", "macs", "num_params")
    return [point | numbers | {name: int(numbers[name] or 0) for name in integer_metrics}]
