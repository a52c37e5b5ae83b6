"""Where a job's student starts from: a model, an earlier job's student, or its checkpoint."""

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from kdcore.protocol.requests import CheckpointFile, ModelFile
from kdcore.schema.exports import STUDENT
from kdcore.schema.job import From, ResolvedJob, channels_of
from store import object_store
from store.database import transaction
from store.tables import Artifact, Checkpoint, Dataset, Job, Model
from worker.files import asset_cache, local_copies


class Beginning(NamedTuple):
    """At most one of the two."""

    init: ModelFile | None = None
    continued: CheckpointFile | None = None


def of(job: ResolvedJob, workdir: Path) -> Beginning:
    """Fetch what the job's student starts from; nothing where its weights are fresh.

    Raises:
        FileNotFoundError: the earlier job, or what it left, was deleted meanwhile.
    """
    if job.from_ is not None:
        return _earlier(job.from_, workdir)
    if job.student.init in ("random", "pretrained"):
        return Beginning()
    with transaction() as session:
        model = session.get_one(Model, job.student.init)
    return Beginning(init=ModelFile(**local_copies.model_file(model)))


def _earlier(start: From, workdir: Path) -> Beginning:
    if start.checkpoint == "best":
        return Beginning(init=_student(start.job))
    query = select(Checkpoint).where(Checkpoint.job_id == start.job)
    if start.checkpoint != "last":
        query = query.where(Checkpoint.step == int(start.checkpoint))
    with transaction() as session:
        found = session.scalars(query.order_by(Checkpoint.step.desc()).limit(1)).one_or_none()
    if found is None:
        raise FileNotFoundError(f"checkpoint {start.checkpoint} of {start.job} is not there")
    path = workdir / "continued.pt"
    object_store.fetch([found.object_key], path, found.sha256)
    return Beginning(continued=CheckpointFile(path=str(path), sha256=found.sha256))


def _student(job_id: str) -> ModelFile:
    with transaction() as session:
        query = select(Artifact).where(Artifact.job_id == job_id, Artifact.name == STUDENT)
        artifact, job = session.scalars(query).one_or_none(), session.get(Job, job_id)
        dataset = session.get(Dataset, job.dataset_id) if job else None
    if artifact is None or job is None or dataset is None or dataset.info is None:
        raise FileNotFoundError(f"the student of {job_id} is not there any more")
    earlier = ResolvedJob.model_validate({k: v for k, v in job.resolved.items() if k != "chosen"})
    return ModelFile(
        path=str(asset_cache.cached(artifact.object_key, artifact.sha256)),
        sha256=artifact.sha256,
        architecture=earlier.student.network,
        num_classes=len(dataset.info["classes"]),
        in_channels=channels_of(earlier.student.channels, dataset.info["in_channels"]),
        input_size=dataset.info["image_size"],
        normalisation=(job.result or {})["normalisation"],
    )
