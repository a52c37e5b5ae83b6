"""Results of a job: runs, metrics, logs, report, checkpoints, artifacts."""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy import select
from starlette.responses import PlainTextResponse, Response

from api.http import scoping
from api.http.auth import JobReader
from api.http.downloads import DOWNLOAD_RESPONSES, download_response
from api.http.etag import etag_response
from api.http.pagination import PageQuery, PageQueryDep, paginate, paginate_list
from api.http.problems import ConflictError
from api.http.responses import json_response
from api.http.routing import v1_router
from api.jobs import serializers
from api.jobs.schemas import (
    ArtifactOut,
    ArtifactPage,
    CheckpointPage,
    MetricsOut,
    ReportOut,
    RunPage,
)
from store import event_log, metric_series
from store.access.credentials import Principal
from store.database import transaction
from store.tables import Artifact, Checkpoint, Job, Run

router = v1_router("", "results")

MAX_LOG_LINES = 10_000


@router.get("/jobs/{job_id}/runs", response_model=RunPage)
def list_job_runs(job_id: str, caller: JobReader, page_query: PageQueryDep) -> Response:
    """List the runs of a job, the first one first."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        rows = session.scalars(select(Run).where(Run.job_id == job.id).order_by(Run.number)).all()
        return paginate_list([serializers.serialize_run(row) for row in rows], page_query)


@router.get("/jobs/{job_id}/metrics", response_model=MetricsOut)
def get_job_metrics(
    job_id: str,
    caller: JobReader,
    keys: Annotated[
        str | None, Query(max_length=4000, description="Names of metrics, comma-separated")
    ] = None,
    x: Annotated[metric_series.Axis, Query(description="The x axis of the curves")] = "step",
    max_points: Annotated[int, Query(ge=2, le=100_000)] = 1000,
) -> Response:
    """Get curves in columns, at most `max_points` points each.

    A longer curve is thinned: each interval keeps its lowest and its highest point.
    """
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        selected_keys = None if keys is None else keys.split(",")
        series = metric_series.read(session, job.id, selected_keys, x, max_points)
        return json_response({"data": series.columns, "num_points": series.totals})


@router.get(
    "/jobs/{job_id}/logs",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_job_logs(job_id: str, caller: JobReader) -> Response:
    """Get the newest log lines of all runs as text."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        lines = [_line(row) for row in event_log.list_logs(session, job.id, MAX_LOG_LINES)]
    return PlainTextResponse("".join(lines))


def _line(row: Any) -> str:
    level = row.data.get("level", "error")
    time = row.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{time} run={row.run or '-'} {level} {row.data.get('message', '')}\n"


@router.get("/jobs/{job_id}/report", response_model=ReportOut)
def get_job_report(job_id: str, request: Request, caller: JobReader) -> Response:
    """Get the report: student, teacher and undistilled baseline side by side, and the verdict."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
    if job.state != "succeeded":
        detail = f"the job has no report (state: {job.state})"
        raise ConflictError("no_report", detail, current_state=job.state)
    if not job.result:
        detail = "a job of the kind warm has no report: see /v1/teacher-caches"
        raise ConflictError("no_report", detail, current_state=job.state)
    return etag_response(request, job.result, str(job.rev))


@router.get("/jobs/{job_id}/checkpoints", response_model=CheckpointPage)
def list_job_checkpoints(job_id: str, caller: JobReader, page_query: PageQueryDep) -> Response:
    """List the stored checkpoints of a job, the newest first."""
    return _list_files(Checkpoint, serializers.serialize_checkpoint, job_id, caller, page_query)


@router.get("/jobs/{job_id}/artifacts", response_model=ArtifactPage)
def list_job_artifacts(job_id: str, caller: JobReader, page_query: PageQueryDep) -> Response:
    """List the artifacts of a job, which exist once it has succeeded."""
    return _list_files(Artifact, serializers.serialize_artifact, job_id, caller, page_query)


def _list_files(
    table: type[Checkpoint] | type[Artifact],
    serialize: Callable[[Any], dict[str, Any]],
    job_id: str,
    caller: Principal,
    page_query: PageQuery,
) -> Response:
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        query = select(table).where(table.job_id == job.id)
        return paginate(session, query, serialize, page_query)


@router.get("/jobs/{job_id}/student", response_class=Response, responses=DOWNLOAD_RESPONSES)
def get_job_student(job_id: str, request: Request, caller: JobReader) -> Response:
    """Download the student's weights, the content of `student.safetensors`."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        query = select(Artifact).where(Artifact.job_id == job.id, Artifact.format == "safetensors")
        student = session.scalars(query).one_or_none()
    if student is None:
        detail = f"the job has no student (state: {job.state})"
        raise ConflictError("no_student", detail, current_state=job.state)
    return _artifact_content(request, student)


@router.get("/artifacts/{artifact_id}", response_model=ArtifactOut)
def get_artifact(artifact_id: str, request: Request, caller: JobReader) -> Response:
    """Get an artifact's format, size and SHA-256."""
    with transaction() as session:
        row = scoping.get_or_404(session, Artifact, artifact_id, caller)
    return etag_response(request, serializers.serialize_artifact(row), row.sha256)


@router.get(
    "/artifacts/{artifact_id}/content", response_class=Response, responses=DOWNLOAD_RESPONSES
)
def get_artifact_content(artifact_id: str, request: Request, caller: JobReader) -> Response:
    """Download an artifact, or a range of its bytes."""
    with transaction() as session:
        row = scoping.get_or_404(session, Artifact, artifact_id, caller)
    return _artifact_content(request, row)


@router.get(
    "/checkpoints/{checkpoint_id}/content", response_class=Response, responses=DOWNLOAD_RESPONSES
)
def get_checkpoint_content(checkpoint_id: str, request: Request, caller: JobReader) -> Response:
    """Download a checkpoint, with the state of optimizer and schedule.

    A running job deletes old checkpoints, so one of the list may be gone.
    """
    with transaction() as session:
        row = scoping.get_or_404(session, Checkpoint, checkpoint_id, caller)
    return download_response(request, row.object_key, row.size_bytes, row.sha256, row.name)


def _artifact_content(request: Request, row: Artifact) -> Response:
    return download_response(
        request, row.object_key, row.size_bytes, row.sha256, row.name, row.media_type
    )
