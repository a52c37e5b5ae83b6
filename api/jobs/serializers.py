"""JSON of jobs, runs, events, checkpoints and artifacts."""

import zlib
from typing import Any

from sqlalchemy.orm import Session

from kdcore.schema.validation.method_compatibility import Incompatibility
from store import jobs
from store.jobs import queue_position
from store.tables import Artifact, Checkpoint, Job, JobEvent, Run

_JOB = (
    *("id", "name", "state", "phase", "desired_state", "progress", "eta_s", "priority", "labels"),
    *("summary", "error", "created_at", "started_at", "finished_at"),
)
_LINKS = ("runs", "events", "metrics", "logs", "report", "checkpoints", "artifacts", "student")


def serialize_job(
    session: Session, row: Job, queue_status: queue_position.QueueStatus | None = None
) -> dict[str, Any]:
    """The body of a ``JobOut``. All jobs of a list share one ``queue_status``."""
    queue_status = queue_status or queue_position.QueueStatus(session, job_id=row.id)
    self_url = f"/v1/jobs/{row.id}"
    jobs_ahead = queue_status.jobs_ahead(row) if row.state == "queued" else None
    return {
        **row.spec,
        "object": "job",
        "kind": row.kind,
        **{name: getattr(row, name) for name in _JOB},
        "queue_position": jobs_ahead,
        "waiting_reason": queue_status.waiting_reason(row),
        "run": row.num_runs or None,
        "last_event": row.event_seq,
        "resolved": row.resolved,
        "runtime": row.runtime if row.num_runs else None,
        "usage": {"device_s": round(row.device_s, 3)},
        "result": _result_summary(row),
        "links": {"self": self_url} | {name: f"{self_url}/{name}" for name in _LINKS},
    }


def _result_summary(row: Job) -> dict[str, Any] | None:
    """The main numbers of a student's report; the whole result of a kind without students."""
    if row.state != "succeeded" or not row.result:
        return None
    report = row.result
    if "student" not in report:
        return report
    student, teacher, baseline = (
        report.get(network) or {} for network in ("student", "teacher", "baseline")
    )
    return {
        "student_top1": student.get("top1"),
        "teacher_top1": teacher.get("top1"),
        "baseline_top1": baseline.get("top1"),
        "agreement": student.get("agreement"),
        "size_bytes": student.get("size_bytes"),
        "verdict": report.get("verdict"),
    }


def job_etag(row: Job, serialized: dict[str, Any]) -> str:
    """The entity tag of ``serialized``: it begins with the version that ``If-Match`` compares."""
    # These two fields depend on other rows, so the job's own counters do not cover them.
    waiting = f"{serialized['queue_position']} {serialized['waiting_reason']}"
    return f"{row.rev}.{row.event_seq}.{zlib.crc32(waiting.encode()):x}"


def serialize_run(row: Run) -> dict[str, Any]:
    """The body of a ``RunOut``."""
    names = ("id", "number", "worker", "device", "started_at", "ended_at", "exit")
    return {
        "object": "run",
        **{name: getattr(row, name) for name in names},
        "resumed_from_step": row.resumed_from_step,
    }


def serialize_event(row: JobEvent) -> dict[str, Any]:
    """The body of an ``EventOut``."""
    return {
        "id": row.seq,
        "object": "event",
        "job": row.job_id,
        "run": row.run,
        "time": row.time,
        "type": row.type,
        "data": row.data,
    }


def serialize_checkpoint(row: Checkpoint) -> dict[str, Any]:
    """The body of a ``CheckpointOut``."""
    names = ("id", "name", "step", "epoch", "metrics", "size_bytes", "sha256", "created_at")
    links = {"content": f"/v1/checkpoints/{row.id}/content"}
    return {"object": "checkpoint", **{name: getattr(row, name) for name in names}, "links": links}


def serialize_artifact(row: Artifact) -> dict[str, Any]:
    """The body of an ``ArtifactOut``."""
    names = ("id", "name", "format", "media_type", "size_bytes", "sha256", "created_at")
    self_url = f"/v1/artifacts/{row.id}"
    return {
        "object": "artifact",
        "job": row.job_id,
        **{name: getattr(row, name) for name in names},
        "links": {"self": self_url, "content": f"{self_url}/content"},
    }


def serialize_method_compatibility(
    incompatibilities: dict[str, Incompatibility | None],
) -> list[dict[str, Any]]:
    """The body of a ``MethodCompatibility`` for every method."""
    return [
        {
            "name": name,
            "compatible": incompatibility is None,
            **(
                incompatibility.model_dump()
                if incompatibility
                else {"code": None, "reason": None, "help": None}
            ),
        }
        for name, incompatibility in incompatibilities.items()
    ]


def is_terminal(row: Job) -> bool:
    """Whether the job has ended."""
    return row.state in jobs.TERMINAL_STATES
