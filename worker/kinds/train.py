"""distill and evaluate: a data set and models in, a student's files and a report out."""

import json
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select

from kdcore.protocol.requests import (
    CheckpointFile,
    DatasetFile,
    ModelFile,
    ResourceLimits,
    RunRequest,
    TeacherFile,
)
from kdcore.schema.exports import STUDENT_FILE
from kdcore.schema.job import ContinueFrom, ResolvedJob, network_channels
from store import object_store
from store.database import transaction
from store.object_store import CorruptBlobError
from store.settings import settings
from store.tables import Artifact, Checkpoint, Dataset, Job, Model
from worker.engine.engine_process import threads_per_training
from worker.files import asset_cache, teacher_cache
from worker.files.run_uploads import upload_artifacts
from worker.kinds.base import Inputs, KindHandler, Publication
from worker.run_result import EngineOutputs


class InitialWeightFiles(NamedTuple):
    """Initial weights of the student: a model, a checkpoint, or neither for random weights."""

    init: ModelFile | None = None
    checkpoint: CheckpointFile | None = None


def load_inputs(job: Job, workdir: Path) -> Inputs:
    """Data set and models from the cache, checkpoints of earlier runs into the work folder."""
    return Inputs(_run_request(job, workdir), _fetch_checkpoints(job, workdir))


def publish(job: Job, outputs: EngineOutputs, workdir: Path) -> Publication:
    """The report, and the student in all its exported forms."""
    return Publication(outputs.report or {}, upload_artifacts(job, outputs.artifacts, workdir))


HANDLERS = (
    KindHandler("distill", load_inputs, publish),
    KindHandler("evaluate", load_inputs, publish),
)


def _run_request(job: Job, workdir: Path) -> RunRequest:
    resolved = ResolvedJob.model_validate(job.resolved)
    with transaction() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
        teachers = [
            (session.get_one(Model, teacher.model), teacher) for teacher in resolved.teachers
        ]
    start = _initial_weights(resolved, workdir)
    teacher_cache.prefetch(job, resolved)
    return RunRequest(
        job=resolved,
        dataset=DatasetFile(path=asset_cache.fetch_asset(dataset), sha256=dataset.sha256 or ""),
        teachers=tuple(
            TeacherFile(
                **asset_cache.model_file_fields(model),
                weight=teacher_spec.weight,
                class_map=teacher_spec.class_map,
                channels=teacher_spec.channels,
                taps=teacher_spec.taps,
            )
            for model, teacher_spec in teachers
        ),
        init=start.init,
        continue_from=start.checkpoint,
        elapsed_s=job.device_s,
        threads=threads_per_training(),
        teacher_cache_dir=str(teacher_cache.cache_folder()),
        limits=ResourceLimits(file_bytes=settings().max_file_bytes),
    )


def _initial_weights(job: ResolvedJob, workdir: Path) -> InitialWeightFiles:
    """A model, an earlier job's student, or its checkpoint.

    Raises FileNotFoundError if the earlier job, or its files, were deleted meanwhile.
    """
    if job.from_ is not None:
        return _weights_of_earlier_job(job.from_, workdir)
    if job.student.init in ("random", "pretrained"):
        return InitialWeightFiles()
    with transaction() as session:
        model = session.get_one(Model, job.student.init)
    return InitialWeightFiles(init=ModelFile(**asset_cache.model_file_fields(model)))


def _weights_of_earlier_job(start: ContinueFrom, workdir: Path) -> InitialWeightFiles:
    if start.checkpoint == "best":
        return InitialWeightFiles(init=_best_student(start.job))
    query = select(Checkpoint).where(Checkpoint.job_id == start.job)
    if start.checkpoint != "last":
        query = query.where(Checkpoint.step == int(start.checkpoint))
    with transaction() as session:
        checkpoint = session.scalars(query.order_by(Checkpoint.step.desc()).limit(1)).one_or_none()
    if checkpoint is None:
        raise FileNotFoundError(f"{start.job} has no checkpoint {start.checkpoint}")
    path = workdir / "earlier_checkpoint.pt"
    object_store.fetch([checkpoint.object_key], path, checkpoint.sha256)
    return InitialWeightFiles(checkpoint=CheckpointFile(path=str(path), sha256=checkpoint.sha256))


def _best_student(job_id: str) -> ModelFile:
    with transaction() as session:
        query = select(Artifact).where(Artifact.job_id == job_id, Artifact.name == STUDENT_FILE)
        artifact, job = session.scalars(query).one_or_none(), session.get(Job, job_id)
        dataset = session.get(Dataset, job.dataset_id) if job else None
    if artifact is None or job is None or dataset is None or dataset.info is None:
        raise FileNotFoundError(f"the student of {job_id}, or its data set, was deleted")
    resolved = ResolvedJob.model_validate(job.resolved)
    return ModelFile(
        path=str(asset_cache.fetch_cached(artifact.object_key, artifact.sha256)),
        sha256=artifact.sha256,
        architecture=resolved.student.network,
        num_classes=len(dataset.info["classes"]),
        in_channels=network_channels(resolved.student.channels, dataset.info["in_channels"]),
        input_size=dataset.info["image_size"],
        normalization=(job.result or {})["normalization"],
        class_names=dataset.info["classes"],
    )


def _fetch_checkpoints(job: Job, workdir: Path) -> list[str]:
    """Fetch the job's checkpoints to where the engine looks for them.

    Returns a sentence for each one that cannot be used: the engine then takes an earlier one.
    """
    with transaction() as session:
        rows = session.scalars(
            select(Checkpoint).where(Checkpoint.job_id == job.id).order_by(Checkpoint.step)
        ).all()
    folder = workdir / "checkpoints"
    folder.mkdir(exist_ok=True)
    damaged = []
    for checkpoint in rows:
        try:
            object_store.fetch([checkpoint.object_key], folder / checkpoint.name, checkpoint.sha256)
        except (CorruptBlobError, FileNotFoundError) as error:
            damaged.append(f"checkpoint {checkpoint.name} cannot be used: {error}")
            continue
        sidecar = {
            "sha256": checkpoint.sha256,
            "size_bytes": checkpoint.size_bytes,
            "step": checkpoint.step,
            "epoch": checkpoint.epoch,
        }
        (folder / checkpoint.name).with_suffix(".json").write_text(json.dumps(sidecar))
    return damaged
