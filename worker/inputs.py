"""From a claimed job's rows to the request that its engine gets, with every file it needs local."""

import json
from pathlib import Path

from sqlalchemy import select

from kdcore.protocol.requests import (
    ConvertRequest,
    DatasetFile,
    IngestRequest,
    ModelFile,
    Request,
    ResourceLimits,
    RunRequest,
    TeacherFile,
    VerifyRequest,
)
from kdcore.schema.job import ResolvedJob
from store import object_store
from store.database import transaction
from store.object_store import CorruptBlobError
from store.settings import settings
from store.tables import Checkpoint, Dataset, Job, Model, Upload
from worker import initial_weights
from worker.engine import engine_process
from worker.files import local_copies, teacher_cache

COMMANDS = {"distill": "run", "evaluate": "run", "warm": "run"}
COMMANDS |= {kind: kind for kind in ("ingest", "verify", "convert")}


def prepare(job: Job, workdir: Path) -> tuple[Request, list[str]]:
    """Fetch what the job needs into ``workdir`` or the cache; the request, and what went wrong.

    Raises:
        CorruptBlobError: a data set's or model's bytes in the store are damaged.
        FileNotFoundError: they are gone.
    """
    if job.kind == "ingest":
        return _ingest(job, workdir), []
    if job.kind == "verify":
        return _verify(job, workdir), []
    if job.kind == "convert":
        return _convert(job), []
    return _run(job, workdir), _checkpoints(job, workdir)


def _run(job: Job, workdir: Path) -> RunRequest:
    resolved = ResolvedJob.model_validate(
        {name: value for name, value in job.resolved.items() if name != "chosen"}
    )
    with transaction() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
        teachers = [
            (session.get_one(Model, teacher.model), teacher) for teacher in resolved.teachers
        ]
    start = initial_weights.of(resolved, workdir)
    teacher_cache.bring(job, resolved)
    return RunRequest(
        job=resolved,
        dataset=DatasetFile(path=local_copies.copy_of(dataset), sha256=dataset.sha256 or ""),
        teachers=tuple(
            TeacherFile(
                **local_copies.model_file(model),
                weight=asked.weight,
                class_map=asked.class_map,
                channels=asked.channels,
                taps=asked.taps,
            )
            for model, asked in teachers
        ),
        init=start.init,
        continued=start.continued,
        elapsed_s=job.device_s,
        threads=engine_process.threads(),
        answers=str(teacher_cache.folder()),
        only_answers=job.kind == "warm",
        limits=ResourceLimits(file_bytes=settings().max_file_bytes),
    )


def _ingest(job: Job, workdir: Path) -> IngestRequest:
    with transaction() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
    root = settings().torchvision_root
    return IngestRequest(
        source="archive" if dataset.upload_id else dataset.source,
        path=_upload(dataset.upload_id, workdir) if dataset.upload_id else None,
        root=str(root) if root else None,
        image_size=job.spec.get("image_size"),
        split_seed=dataset.split_seed,
        max_decoded_bytes=settings().max_file_bytes,
        limits=_bounded(),
    )


def _verify(job: Job, workdir: Path) -> VerifyRequest:
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    if model.upload_id is None:
        return VerifyRequest(published=model.source, limits=_bounded())
    return VerifyRequest(
        path=_upload(model.upload_id, workdir),
        architecture=model.architecture,
        num_classes=model.num_classes,
        limits=_bounded(),
    )


def _convert(job: Job) -> ConvertRequest:
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    return ConvertRequest(
        model=ModelFile(**local_copies.model_file(model)),
        classes=tuple(model.class_names or ()),
        limits=_bounded(),
    )


def _bounded() -> ResourceLimits:
    """For the processes that open what users sent, or make something of it."""
    chosen = settings()
    return ResourceLimits(
        memory_bytes=chosen.prepare_memory_bytes,
        cpu_s=chosen.prepare_cpu_s,
        file_bytes=chosen.max_file_bytes,
    )


def _upload(upload_id: str, workdir: Path) -> str:
    """Opened once, so it is not worth a place in the cache."""
    with transaction() as session:
        upload = session.get_one(Upload, upload_id)
        keys = [part.object_key for part in upload.parts]
    if not keys:
        raise FileNotFoundError(f"the bytes of {upload_id} turned out to be bad and are deleted")
    path = workdir / "upload"
    object_store.fetch(keys, path, upload.sha256)
    return str(path)


def _checkpoints(job: Job, workdir: Path) -> list[str]:
    """Put the kept checkpoints where the engine looks for them. Returns a sentence for each bad."""
    with transaction() as session:
        kept = session.scalars(
            select(Checkpoint).where(Checkpoint.job_id == job.id).order_by(Checkpoint.step)
        ).all()
    folder = workdir / "checkpoints"
    folder.mkdir(exist_ok=True)
    damaged = []
    for checkpoint in kept:
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
