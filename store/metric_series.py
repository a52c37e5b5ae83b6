"""Metric series: written in batches, thinned when they are read."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from sqlalchemy import Integer, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from kdcore.protocol.events import MetricsEvent
from store.tables import Job, Metric

Axis = Literal["step", "epoch", "wall_s"]
CurveColumn = dict[str, list[Any]]

_CURVE_POINTS = 60
_SUMMARY_KEYS = (
    *("train/loss", "train/images_per_s", "train/memory_bytes", "val/top1", "val/agreement"),
    *("teacher/top1", "baseline/val/top1"),
)
_INSERT = insert(Metric)
_UPSERT = _INSERT.on_conflict_do_update(
    index_elements=["job_id", "key", "step"],
    set_={name: _INSERT.excluded[name] for name in ("epoch", "wall_s", "value", "project_id")},
)


def write(session: Session, job: Job, events: Sequence[MetricsEvent]) -> None:
    """Store the values of events. A step that a resumed run repeats is overwritten."""
    rows = [
        {
            "job_id": job.id,
            "project_id": job.project_id,
            "key": key,
            "step": event.step,
            "epoch": event.epoch,
            "wall_s": event.wall_s,
            # JSON has no NaN; a missing value is a gap in the curve.
            "value": value if value is not None and math.isfinite(value) else None,
        }
        for event in events
        for key, value in event.values.items()
    ]
    if rows:
        # One statement per row, sent together: its text does not depend on the number of rows, so
        # it is compiled and prepared once.
        session.connection().execute(_UPSERT, rows)
    for event in events:
        _update_summary(job, event)


def _update_summary(job: Job, event: MetricsEvent) -> None:
    summary = dict(job.summary)
    summary |= {key: event.values[key] for key in _SUMMARY_KEYS if key in event.values}
    if "val/top1" in event.values:
        summary["curve"] = _thin_curve([*summary.get("curve", []), event.values["val/top1"]])
    job.summary = summary


def _thin_curve(curve: list[float | None]) -> list[float | None]:
    return curve if len(curve) <= _CURVE_POINTS else [*curve[:-1][::2], curve[-1]]


class Curves(NamedTuple):
    """Thinned curves, and the total number of points of each."""

    columns: dict[str, CurveColumn]
    totals: dict[str, int]


def read(
    session: Session, job_id: str, keys: list[str] | None, axis: Axis, max_points: int
) -> Curves:
    """Columns ``{key: {axis: […], "value": […]}}``, thinned to the extremes of each bucket."""
    conditions = [Metric.job_id == job_id]
    if keys is not None:
        conditions.append(Metric.key.in_(keys))
    counts = dict(
        session.execute(
            select(Metric.key, func.count()).where(*conditions).group_by(Metric.key)
        ).all()
    )
    x = getattr(Metric, axis)
    columns: dict[str, CurveColumn] = {key: {axis: [], "value": []} for key in sorted(counts)}
    unthinned_keys = [key for key, count in counts.items() if count <= max_points]
    query = select(Metric.key, x, Metric.value).where(*conditions, Metric.key.in_(unthinned_keys))
    points = [tuple(row) for row in session.execute(query.order_by(Metric.key, Metric.step))]
    for key in counts.keys() - set(unthinned_keys):
        points += _extremes(session, job_id, key, axis, max_points)
    for key, position, value in points:
        columns[key][axis].append(position)
        columns[key]["value"].append(value)
    return Curves(columns, dict(sorted(counts.items())))


def _extremes(
    session: Session, job_id: str, key: str, axis: Axis, max_points: int
) -> list[tuple[str, float, float | None]]:
    """Both ends, and the lowest and highest value of each bucket, in order of step."""
    buckets = max(1, (max_points - 2) // 2)
    bucket = func.ntile(buckets).over(order_by=Metric.step).cast(Integer).label("bucket")
    points = (
        select(Metric.step, getattr(Metric, axis).label("x"), Metric.value, bucket)
        .where(Metric.job_id == job_id, Metric.key == key)
        .subquery()
    )
    lowest = func.row_number().over(
        partition_by=points.c.bucket, order_by=(points.c.value, points.c.step)
    )
    highest = func.row_number().over(
        partition_by=points.c.bucket,
        order_by=(points.c.value.desc().nulls_last(), points.c.step.desc()),
    )
    first, last = (
        func.row_number().over(order_by=order) for order in (points.c.step, points.c.step.desc())
    )
    ranked = select(
        points, lowest.label("low"), highest.label("high"), first.label("first"), last.label("last")
    ).subquery()
    ends = (ranked.c.first, ranked.c.last)
    selected_ranks = ends if max_points < 4 else (*ends, ranked.c.low, ranked.c.high)
    query = (
        select(ranked.c.x, ranked.c.value)
        .where(or_(*(rank == 1 for rank in selected_ranks)))
        .order_by(ranked.c.step)
    )
    return [(key, x, value) for x, value in session.execute(query)]
