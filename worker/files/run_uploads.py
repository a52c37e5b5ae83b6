"""Uploads of a run: checkpoints and artifacts into the object store, under keys with its fence.

A run that has lost its lease can therefore overwrite nothing. What it has uploaded has no row, and
garbage collection deletes it. A file outside the work folder raises OutsideWorkdirError.
"""

from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from kdcore.protocol.events import ArtifactEvent, CheckpointEvent
from store import object_store
from store.ids import new_id
from store.settings import settings
from store.tables import Artifact, Checkpoint, Job
from worker.files.workdirs import output_path


def upload_checkpoint(job: Job, event: CheckpointEvent, workdir: Path) -> Checkpoint | None:
    """Store a checkpoint. Returns None if the engine has already replaced it by a newer one."""
    checkpoint_id = new_id("ckp")
    key = f"{job.project_id}/jobs/{job.id}/{job.fence}/{checkpoint_id}"
    try:
        object_store.put_file(key, output_path(workdir, event.path))
    except FileNotFoundError:
        return None
    return Checkpoint(
        id=checkpoint_id,
        project_id=job.project_id,
        job_id=job.id,
        name=Path(event.path).name,
        object_key=key,
        sha256=event.sha256,
        size_bytes=event.size_bytes,
        fence=job.fence,
        step=event.step,
        epoch=event.epoch,
        metrics=dict(event.metrics),
    )


def prune_checkpoints(session: Session, job: Job) -> list[str]:
    """Delete the rows of all but the newest checkpoints. Returns keys to delete after the commit.

    A resumed run may reach a step again: of each step, only the later checkpoint stays.
    """
    rows = session.scalars(
        select(Checkpoint)
        .where(Checkpoint.job_id == job.id)
        .order_by(Checkpoint.created_at.desc(), Checkpoint.id.desc())
    ).all()
    retained_names: set[str] = set()
    dropped = []
    for row in rows:
        if row.name in retained_names or len(retained_names) == settings().max_checkpoints:
            session.delete(row)
            dropped.append(row.object_key)
        else:
            retained_names.add(row.name)
    return dropped


def upload_artifacts(
    job: Job, artifact_events: list[ArtifactEvent], workdir: Path
) -> list[Artifact]:
    """Store a finished run's files. The transaction that ends the job adds the returned rows."""
    rows = []
    for event in artifact_events:
        artifact_id = new_id("art")
        key = f"{job.project_id}/jobs/{job.id}/{job.fence}/{artifact_id}"
        object_store.put_file(key, output_path(workdir, event.path))
        rows.append(
            Artifact(
                id=artifact_id,
                project_id=job.project_id,
                job_id=job.id,
                name=event.name,
                format=event.format,
                media_type=event.media_type,
                object_key=key,
                sha256=event.sha256,
                size_bytes=event.size_bytes,
                fence=job.fence,
            )
        )
    return rows


def upload_asset(
    job: Job, artifact: ArtifactEvent, workdir: Path, folder: str
) -> dict[str, object]:
    """Store a file under its digest in a folder of the project: equal bytes are stored once."""
    key = f"{job.project_id}/{folder}/{artifact.sha256}"
    object_store.put_file(key, output_path(workdir, artifact.path))
    return {"object_key": key, "sha256": artifact.sha256, "size_bytes": artifact.size_bytes}
