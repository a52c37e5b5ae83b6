"""What a job leaves behind: runs, metrics, logs, report, checkpoints, artifacts."""

from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy import select
from starlette.responses import PlainTextResponse, Response

from api.http import scoping
from api.http.auth import JobReader
from api.http.downloads import DOWNLOAD_RESPONSES, download_response
from api.http.pagination import PageQueryDep, paginate, paginate_list
from api.http.problems import ConflictError
from api.http.responses import etag_response, json_response
from api.http.router import v1_router
from api.jobs import serializers
from api.jobs.schemas import (
    ArtifactOut,
    ArtifactPage,
    CheckpointPage,
    MetricsOut,
    ReportOut,
    RunPage,
)
from store import event_log
from store import metric_series as curves
from store.database import transaction
from store.tables import Artifact, Checkpoint, Job, Run

results_router = v1_router("/jobs/{job_id}", "outcome")
artifacts_router = v1_router("/artifacts", "outcome")
checkpoints_router = v1_router("/checkpoints", "outcome")

LOG_LINES = 10_000


@results_router.get("/runs", response_model=RunPage)
def list_runs(job_id: str, caller: JobReader, page_query: PageQueryDep) -> Response:
    """One entry for each attempt, the first one first."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        rows = session.scalars(select(Run).where(Run.job_id == job.id).order_by(Run.number)).all()
        return paginate_list([serializers.serialize_run(row) for row in rows], page_query)


@results_router.get("/metrics", response_model=MetricsOut)
def get_metrics(
    job_id: str,
    caller: JobReader,
    keys: Annotated[str | None, Query(max_length=4000, description="Comma-separated")] = None,
    x: Annotated[curves.Axis, Query(description="What the values are given over")] = "step",
    max_points: Annotated[int, Query(ge=2, le=100_000)] = 1000,
) -> Response:
    """Curves in columns. A longer one is thinned to the lowest and highest of each stretch."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        selected_keys = None if keys is None else keys.split(",")
        series = curves.read(session, job.id, selected_keys, x, max_points)
        return json_response({"data": series.columns, "num_points": series.totals})


@results_router.get(
    "/logs",
    response_class=PlainTextResponse,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_logs(job_id: str, caller: JobReader) -> Response:
    """The lines that runs wrote for people, as text."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        lines = [_line(row) for row in event_log.list_logs(session, job.id, LOG_LINES)]
    return PlainTextResponse("".join(lines))


def _line(row: Any) -> str:
    level = row.data.get("level", "error")
    time = row.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{time} run={row.run or '-'} {level} {row.data.get('message', '')}\n"


@results_router.get("/report", response_model=ReportOut)
def get_report(job_id: str, request: Request, caller: JobReader) -> Response:
    """Student, teacher and undistilled student side by side, and the verdict."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
    if job.state != "succeeded":
        detail = f"a job that is {job.state} has no report"
        raise ConflictError("no_report", detail, current_state=job.state)
    if not job.result:
        detail = "a job that only asks its teachers has no report: see /v1/teacher-caches"
        raise ConflictError("no_report", detail, current_state=job.state)
    return etag_response(request, job.result, str(job.rev))


@results_router.get("/checkpoints", response_model=CheckpointPage)
def list_checkpoints(job_id: str, caller: JobReader, page_query: PageQueryDep) -> Response:
    """Checkpoints that are kept, the newest first."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        query = select(Checkpoint).where(Checkpoint.job_id == job.id)
        return paginate(session, query, serializers.serialize_checkpoint, page_query)


@results_router.get("/artifacts", response_model=ArtifactPage)
def list_artifacts(job_id: str, caller: JobReader, page_query: PageQueryDep) -> Response:
    """Finished files; there are none before the job has succeeded."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        query = select(Artifact).where(Artifact.job_id == job.id)
        return paginate(session, query, serializers.serialize_artifact, page_query)


@results_router.get("/student", response_class=Response, responses=DOWNLOAD_RESPONSES)
def get_student(job_id: str, request: Request, caller: JobReader) -> Response:
    """The distilled student's weights: the content of ``student.safetensors``."""
    with transaction() as session:
        job = scoping.get_or_404(session, Job, job_id, caller)
        query = select(Artifact).where(Artifact.job_id == job.id, Artifact.format == "safetensors")
        student = session.scalars(query).one_or_none()
    if student is None:
        detail = f"a job that is {job.state} has no student to download"
        raise ConflictError("no_student", detail, current_state=job.state)
    return _artifact_content(request, student)


@artifacts_router.get("/{artifact_id}", response_model=ArtifactOut)
def get_artifact(artifact_id: str, request: Request, caller: JobReader) -> Response:
    """One file: format, size, SHA-256."""
    with transaction() as session:
        row = scoping.get_or_404(session, Artifact, artifact_id, caller)
    return etag_response(request, serializers.serialize_artifact(row), row.sha256)


@artifacts_router.get(
    "/{artifact_id}/content", response_class=Response, responses=DOWNLOAD_RESPONSES
)
def get_artifact_content(artifact_id: str, request: Request, caller: JobReader) -> Response:
    """The file's bytes: whole, or a range of them."""
    with transaction() as session:
        row = scoping.get_or_404(session, Artifact, artifact_id, caller)
    return _artifact_content(request, row)


@checkpoints_router.get(
    "/{checkpoint_id}/content", response_class=Response, responses=DOWNLOAD_RESPONSES
)
def get_checkpoint_content(checkpoint_id: str, request: Request, caller: JobReader) -> Response:
    """A checkpoint's bytes as the engine wrote them, with optimizer and schedule.

    Old ones go while a job trains: what was listed a moment ago may not be there any more.
    """
    with transaction() as session:
        row = scoping.get_or_404(session, Checkpoint, checkpoint_id, caller)
    return download_response(request, row.object_key, row.size_bytes, row.sha256, row.name)


def _artifact_content(request: Request, row: Artifact) -> Response:
    return download_response(
        request, row.object_key, row.size_bytes, row.sha256, row.name, row.media_type
    )
