"""The Pareto frontier of the networks that were measured on a data set."""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from fastapi import Query
from sqlalchemy import Double, Select, cast, select
from sqlalchemy.exc import DataError
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.analysis.schemas import Frontier, XMetric, YMetric
from api.analysis.stored_values import read_network, read_number, read_objects
from api.http import scoping
from api.http.auth import JobReader
from api.http.responses import json_response
from api.http.routing import v1_router
from store.database import read_session
from store.tables import Dataset, Job, Model

router = v1_router("/frontier", "analysis")
_MAX_JOBS = 10_000
"""Only the newest jobs are read."""
_Z_95 = 1.96
"""Standard errors of the 95 % interval of a normal distribution."""
_METRICS = ("top1", "agreement", "size_bytes", "macs", "num_params")
_JOB_COLUMNS = (
    *(Job.id, Job.name, Job.kind, Job.methods, Job.created_at),
    *(Job.resolved["student"], Job.resolved["teachers"], Job.result["device"].astext),
    *(Job.result[(role, "latency_ms", "unsteady")].astext for role in ("student", "teacher")),
)


@router.get("", response_model=Frontier)
def get_frontier(
    caller: JobReader,
    dataset: Annotated[str, Query(max_length=64, description="Id of the data set")],
    x: XMetric = "latency_ms",
    y: YMetric = "top1",
    limit: Annotated[int, Query(ge=1, le=2000)] = 500,
) -> Response:
    """Get accuracy or agreement against latency, size or multiply-accumulates on the test split.

    Only students can be on the frontier. With latency, each device has a frontier of its own.
    """
    with read_session() as session:
        row = scoping.get_or_404(session, Dataset, dataset, caller)
        points = measured_networks(session, row.id, x, y)
        splits = (row.info or {}).get("splits", {})
        num_test_images = splits.get("test", {}).get("count", 0)
    return json_response(
        {
            "object": "frontier",
            "dataset": row.id,
            "x": x,
            "y": y,
            "axes": axis_trust(points, x, y, num_test_images),
            "data": select_points(points, x, limit),
            "total": len(points),
            "next_cursor": None,
        }
    )


def measured_networks(
    session: Session, dataset_id: str, x: XMetric, y: YMetric
) -> list[dict[str, Any]]:
    """Every student and teacher that has both metrics, each the body of a ``FrontierPoint``."""
    try:
        rows: Sequence[Sequence[Any]] = session.execute(_query(dataset_id, as_double=True)).all()
    except DataError:  # a stored value is no number or beyond a double
        rows = session.execute(_query(dataset_id, as_double=False)).all()
    count = len(_METRICS) + 1
    points: list[dict[str, Any]] = []
    teacher_points: dict[str, dict[str, Any]] = {}
    for row in rows:
        job_values, numbers = row[: len(_JOB_COLUMNS)], row[len(_JOB_COLUMNS) :]
        if job_values[2] == "distill":
            points += _points(job_values, "student", numbers[:count], x, y)
        teachers = read_objects(job_values[6])
        if len(teachers) == 1:
            # Rows are sorted by age, newest first, so the last assignment is the oldest job.
            for point in _points(job_values, "teacher", numbers[count:], x, y):
                teacher_points[str(teachers[0].get("model"))] = point
    return [*points, *_name_teachers(session, teacher_points)]


def select_points(points: Sequence[dict[str, Any]], x: XMetric, limit: int) -> list[dict[str, Any]]:
    """Mark the frontier and return at most ``limit`` points, sorted by x.

    Students that are on no frontier are dropped first, the oldest before the newest.
    """
    students = [point for point in points if point["role"] == "student"]
    if x == "latency_ms":
        for device in {point["device"] for point in students}:
            _mark_frontier([point for point in students if point["device"] == device])
    else:
        _mark_frontier(students)
    shown = sorted(points, key=_is_dominated)[:limit]
    return sorted(shown, key=lambda point: (point["x"], -point["y"]))


def _is_dominated(point: dict[str, Any]) -> bool:
    return point["role"] == "student" and not point["on_frontier"]


def _mark_frontier(students: Sequence[dict[str, Any]]) -> None:
    """Mark every student that is better than all smaller ones; of equal ones only the first."""
    best = float("-inf")
    for point in sorted(students, key=lambda student: (student["x"], -student["y"])):
        point["on_frontier"] = point["y"] > best
        best = max(best, point["y"])


def _query(dataset_id: str, *, as_double: bool) -> Select[Any]:
    """``_JOB_COLUMNS`` of all jobs that succeeded, and the metrics of both networks."""
    columns = [*_report_columns("student"), *_report_columns("teacher")]
    if as_double:  # several times faster than JSON, but one odd value fails the statement
        columns = [cast(column.astext, Double) for column in columns]
    return (
        select(*_JOB_COLUMNS, *columns)
        .where(
            Job.dataset_id == dataset_id, Job.queue == scoping.TRAIN_QUEUE, Job.state == "succeeded"
        )
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(_MAX_JOBS)
    )


def axis_trust(
    points: Sequence[dict[str, Any]], x: XMetric, y: YMetric, num_test_images: int
) -> dict[str, Any]:
    """The body of ``FrontierAxes``: whether noise can change the order of the students."""
    students = [point for point in points if point["role"] == "student"]
    notes = {
        "x": _latency_note(students) if x == "latency_ms" else None,
        "y": _sampling_note(students, y, num_test_images),
    }
    return {axis: {"trusted": note is None, "note": note} for axis, note in notes.items()}


def _latency_note(students: Sequence[dict[str, Any]]) -> str | None:
    unsteady = sum(point["unsteady"] for point in students)
    if not unsteady:
        return None
    return (
        f"other load disturbed {unsteady} of {len(students)} latencies: evaluate these students "
        "again on a quiet machine, or compare macs"
    )


def _sampling_note(
    students: Sequence[dict[str, Any]], y: YMetric, num_test_images: int
) -> str | None:
    """Why the order of the students may be chance; None if the best differs from the worst."""
    values = [point["y"] for point in students]
    if len(values) < 2 or num_test_images < 1:
        return None
    low, high = min(values), max(values)
    margin = _chance_margin(low, high, num_test_images)
    if high - low > margin:
        return None
    finding = (
        f"all students have the same {y}"
        if high == low
        else f"all students lie within {high - low:.1f} points of {y}"
    )
    return (
        f"{finding}, and chance explains differences up to {margin:.1f} points on "
        f"{num_test_images:,} test images: use more test images or several seeds"
    )


def _chance_margin(low: float, high: float, num_images: int) -> float:
    """The largest difference of two percentages whose 95 % interval includes zero.

    Source: Agresti and Caffo 2000, which adds one success and one failure to each proportion,
    so that the interval of 100 % is not empty.
    """
    shares = [
        (min(max(value, 0), 100) / 100 * num_images + 1) / (num_images + 2) for value in (low, high)
    ]
    variance = sum(share * (1 - share) for share in shares) / (num_images + 2)
    return 100 * _Z_95 * math.sqrt(variance) * (num_images + 2) / num_images


def _report_columns(role: str) -> list[Any]:
    """The metrics of a network, read one by one because a report also has large matrices."""
    columns = [Job.result[(role, name)] for name in _METRICS]
    return [*columns, Job.result[(role, "latency_ms", "p50")]]


def _name_teachers(
    session: Session, teacher_points: dict[str, dict[str, Any]]
) -> Iterable[dict[str, Any]]:
    """The points of teachers that still exist, with their own name and architecture."""
    for model in session.scalars(select(Model).where(Model.id.in_(teacher_points))):
        identity = {"name": model.name, "model": model.id, "architecture": model.architecture}
        yield teacher_points[model.id] | identity | {"methods": []}


def _points(
    job_values: Sequence[Any], role: str, values: Sequence[Any], x: XMetric, y: YMetric
) -> list[dict[str, Any]]:
    """The network as one point; no point if it lacks one of the two metrics."""
    numbers = dict(zip((*_METRICS, "latency_ms"), map(read_number, values), strict=True))
    if numbers[x] is None or numbers[y] is None:
        return []
    job, name, _, methods, created_at, student, _, device, *unsteady = job_values
    point = {
        "job": job,
        "name": name,
        "role": role,
        "model": None,
        "architecture": read_network(student),
        "methods": methods,
        "x": numbers[x],
        "y": numbers[y],
        "on_frontier": False,
        "device": device,
        "unsteady": unsteady[role == "teacher"] == "true",
        "created_at": created_at,
    }
    integer_metrics = ("size_bytes", "macs", "num_params")
    integers = {
        name: None if (number := numbers[name]) is None else int(number) for name in integer_metrics
    }
    return [point | numbers | integers]
