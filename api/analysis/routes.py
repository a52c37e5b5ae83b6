"""Comparison of jobs, and the frontier of accuracy against cost on a data set."""

from typing import Annotated

from fastapi import Query
from starlette.responses import Response

from api.analysis import compare, frontier
from api.analysis.schemas import Comparison, Frontier, XMetric, YMetric
from api.http import scoping
from api.http.auth import JobReader
from api.http.problems import InvalidRequestError, NotFoundError
from api.http.responses import json_response
from api.http.routing import v1_router
from store import metric_series
from store.database import read_session, transaction
from store.tables import Dataset, Job

router = v1_router("", "analysis")

MIN_JOBS, MAX_JOBS = 2, 10


@router.get("/compare", response_model=Comparison)
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
        return json_response(compare.compare(session, rows, x, max_points))


@router.get("/frontier", response_model=Frontier)
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
        points = frontier.measured_networks(session, row.id, x, y)
        splits = (row.info or {}).get("splits", {})
        num_test_images = splits.get("test", {}).get("count", 0)
    return json_response(
        {
            "object": "frontier",
            "dataset": row.id,
            "x": x,
            "y": y,
            "axes": frontier.axis_trust(points, x, y, num_test_images),
            "data": frontier.select_points(points, x, limit),
            "total": len(points),
            "next_cursor": None,
        }
    )
