"""Rows of a job as answers carry them."""

import zlib
from typing import Any

from sqlalchemy.orm import Session

from kdcore.schema.validation.method_compatibility import Misfit
from store import jobs, outbox
from store.tables import Artifact, Checkpoint, Event, Job, Run

_JOB = (
    *("id", "name", "state", "phase", "desired_state", "progress", "eta_s", "priority", "labels"),
    *("summary", "error", "created_at", "started_at", "finished_at"),
)
_LINKS = ("runs", "events", "metrics", "logs", "report", "checkpoints", "artifacts", "student")


def job(session: Session, row: Job, waiting: outbox.Waiting | None = None) -> dict[str, Any]:
    """The job as posted, with all that has become of it; ``waiting`` is shared by a list's jobs."""
    waiting = waiting or outbox.Waiting(session, only=row.id)
    own = f"/v1/jobs/{row.id}"
    resolved = dict(row.resolved)
    chosen = resolved.pop("chosen", None)
    ahead = waiting.ahead(row) if row.state == "queued" else None
    return {
        **row.spec,
        "object": "job",
        "kind": row.kind,
        **{name: getattr(row, name) for name in _JOB},
        "queue_position": ahead,
        "waiting_reason": _reason(row, ahead, waiting),
        "run": row.num_runs or None,
        "last_event": row.event_seq,
        "resolved": resolved,
        "chosen": chosen,
        "usage": {"device_s": round(row.device_s, 3)},
        "result": _result(row),
        "links": {"self": own} | {name: f"{own}/{name}" for name in _LINKS},
    }


def _reason(row: Job, ahead: int | None, waiting: outbox.Waiting) -> str | None:
    if row.state != "queued":
        return None
    if waiting.workers(row.lane) == 0:
        return "no worker is running"
    if row.not_before is not None:
        return "the object store was away: its data is asked for again soon"
    if ahead:
        return f"{ahead} jobs are ahead" if ahead > 1 else "1 job is ahead"
    return "waiting for a worker to be free"


def _result(row: Job) -> dict[str, Any] | None:
    """The outcome in a few numbers; the whole is the report."""
    if row.state != "succeeded" or not row.result:
        return None
    report = row.result
    return {
        "student_top1": report["student"]["top1"],
        "teacher_top1": (report["teacher"] or {}).get("top1"),
        "baseline_top1": (report["baseline"] or {}).get("top1"),
        "agreement": report["student"]["agreement"],
        "size_bytes": report["student"]["size_bytes"],
        "verdict": report["verdict"],
    }


def tag(row: Job, shown: dict[str, Any]) -> str:
    """Changes whenever the job's answer does; begins with the version that ``If-Match`` names."""
    # How long a job waits is told by other rows than its own.
    waits = zlib.crc32(f"{shown['queue_position']} {shown['waiting_reason']}".encode())
    return f"{row.rev}.{row.event_seq}.{waits:x}"


def run(row: Run) -> dict[str, Any]:
    """One attempt."""
    names = ("id", "number", "worker", "device", "started_at", "ended_at", "exit")
    return {
        "object": "run",
        **{name: getattr(row, name) for name in names},
        "resumed_from_step": row.resumed_from_step,
    }


def event(row: Event) -> dict[str, Any]:
    """One thing that happened."""
    return {
        "id": row.seq,
        "object": "event",
        "job": row.job_id,
        "run": row.run,
        "time": row.time,
        "type": row.type,
        "data": row.data,
    }


def checkpoint(row: Checkpoint) -> dict[str, Any]:
    """A place to go on from."""
    names = ("id", "name", "step", "epoch", "metrics", "size_bytes", "sha256", "created_at")
    links = {"content": f"/v1/checkpoints/{row.id}/content"}
    return {"object": "checkpoint", **{name: getattr(row, name) for name in names}, "links": links}


def artifact(row: Artifact) -> dict[str, Any]:
    """A finished file."""
    names = ("id", "name", "format", "media_type", "size_bytes", "sha256", "created_at")
    own = f"/v1/artifacts/{row.id}"
    return {
        "object": "artifact",
        "job": row.job_id,
        **{name: getattr(row, name) for name in names},
        "links": {"self": own, "content": f"{own}/content"},
    }


def applicability(found: dict[str, Misfit | None]) -> list[dict[str, Any]]:
    """Every method with what forbids it."""
    return [
        {
            "name": name,
            "fits": misfit is None,
            **(misfit.model_dump() if misfit else {"code": None, "reason": None, "help": None}),
        }
        for name, misfit in found.items()
    ]


def ended(row: Job) -> bool:
    """Whether nothing more will happen to the job."""
    return row.state in jobs.TERMINAL
