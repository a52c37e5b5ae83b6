"""Where a job's student starts from: a model, an earlier job's student, or its checkpoint."""

from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from kdcore.protocol.requests import CheckpointFile, ModelFile
from kdcore.schema.exports import STUDENT_FILE
from kdcore.schema.job import ContinueFrom, ResolvedJob, network_channels
from store import object_store
from store.database import transaction
from store.tables import Artifact, Checkpoint, Dataset, Job, Model
from worker.files import asset_cache, local_copies


class InitialWeightFiles(NamedTuple):
    """At most one of the two."""

    init: ModelFile | None = None
    checkpoint: CheckpointFile | None = None


def fetch_initial_weights(job: ResolvedJob, workdir: Path) -> InitialWeightFiles:
    """Fetch what the job's student starts from; nothing where its weights are fresh.

    Raises:
        FileNotFoundError: the earlier job, or what it left, was deleted meanwhile.
    """
    if job.from_ is not None:
        return _weights_of_earlier_job(job.from_, workdir)
    if job.student.init in ("random", "pretrained"):
        return InitialWeightFiles()
    with transaction() as session:
        model = session.get_one(Model, job.student.init)
    return InitialWeightFiles(init=ModelFile(**local_copies.model_file_fields(model)))


def _weights_of_earlier_job(start: ContinueFrom, workdir: Path) -> InitialWeightFiles:
    if start.checkpoint == "best":
        return InitialWeightFiles(init=_best_student(start.job))
    query = select(Checkpoint).where(Checkpoint.job_id == start.job)
    if start.checkpoint != "last":
        query = query.where(Checkpoint.step == int(start.checkpoint))
    with transaction() as session:
        checkpoint = session.scalars(query.order_by(Checkpoint.step.desc()).limit(1)).one_or_none()
    if checkpoint is None:
        raise FileNotFoundError(f"checkpoint {start.checkpoint} of {start.job} is not there")
    path = workdir / "continued.pt"
    object_store.fetch([checkpoint.object_key], path, checkpoint.sha256)
    return InitialWeightFiles(checkpoint=CheckpointFile(path=str(path), sha256=checkpoint.sha256))


def _best_student(job_id: str) -> ModelFile:
    with transaction() as session:
        query = select(Artifact).where(Artifact.job_id == job_id, Artifact.name == STUDENT_FILE)
        artifact, job = session.scalars(query).one_or_none(), session.get(Job, job_id)
        dataset = session.get(Dataset, job.dataset_id) if job else None
    if artifact is None or job is None or dataset is None or dataset.info is None:
        raise FileNotFoundError(f"the student of {job_id} is not there any more")
    resolved = ResolvedJob.model_validate(job.resolved)
    return ModelFile(
        path=str(asset_cache.fetch_cached(artifact.object_key, artifact.sha256)),
        sha256=artifact.sha256,
        architecture=resolved.student.network,
        num_classes=len(dataset.info["classes"]),
        in_channels=network_channels(resolved.student.channels, dataset.info["in_channels"]),
        input_size=dataset.info["image_size"],
        normalization=(job.result or {})["normalization"],
    )
