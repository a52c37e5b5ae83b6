"""From a claimed job's rows to the request that its engine gets, with every file it needs local."""

import json
from pathlib import Path

from sqlalchemy import select

from kdcore.protocol.requests import (
    ConvertRequest,
    DatasetFile,
    EngineRequest,
    IngestRequest,
    ModelFile,
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


def build_request(job: Job, workdir: Path) -> tuple[EngineRequest, list[str]]:
    """Fetch what the job needs into ``workdir`` or the cache; the request, and what went wrong.

    Raises:
        CorruptBlobError: a data set's or model's bytes in the store are damaged.
        FileNotFoundError: they are gone.
    """
    if job.kind == "ingest":
        return _ingest_request(job, workdir), []
    if job.kind == "verify":
        return _verify_request(job, workdir), []
    if job.kind == "convert":
        return _convert_request(job), []
    return _run_request(job, workdir), _fetch_checkpoints(job, workdir)


def _run_request(job: Job, workdir: Path) -> RunRequest:
    resolved = ResolvedJob.model_validate(job.resolved)
    with transaction() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
        teachers = [
            (session.get_one(Model, teacher.model), teacher) for teacher in resolved.teachers
        ]
    start = initial_weights.fetch_initial_weights(resolved, workdir)
    teacher_cache.prefetch(job, resolved)
    return RunRequest(
        job=resolved,
        dataset=DatasetFile(path=local_copies.fetch_asset(dataset), sha256=dataset.sha256 or ""),
        teachers=tuple(
            TeacherFile(
                **local_copies.model_file_fields(model),
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
        threads=engine_process.threads_per_training(),
        teacher_cache_dir=str(teacher_cache.cache_folder()),
        fill_cache_only=job.kind == "warm",
        limits=ResourceLimits(file_bytes=settings().max_file_bytes),
    )


def _ingest_request(job: Job, workdir: Path) -> IngestRequest:
    with transaction() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
    root = settings().torchvision_root
    return IngestRequest(
        source="archive" if dataset.upload_id else dataset.source,
        path=_fetch_upload(dataset.upload_id, workdir) if dataset.upload_id else None,
        root=str(root) if root else None,
        image_size=job.spec.get("image_size"),
        split_seed=dataset.split_seed,
        max_decoded_bytes=settings().max_file_bytes,
        limits=_prepare_limits(),
    )


def _verify_request(job: Job, workdir: Path) -> VerifyRequest:
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    if model.upload_id is None:
        return VerifyRequest(pretrained=model.source, limits=_prepare_limits())
    return VerifyRequest(
        path=_fetch_upload(model.upload_id, workdir),
        architecture=model.architecture,
        num_classes=model.num_classes,
        limits=_prepare_limits(),
    )


def _convert_request(job: Job) -> ConvertRequest:
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    return ConvertRequest(
        model=ModelFile(**local_copies.model_file_fields(model)),
        classes=tuple(model.class_names or ()),
        limits=_prepare_limits(),
    )


def _prepare_limits() -> ResourceLimits:
    """For the processes that open what users sent, or make something of it."""
    config = settings()
    return ResourceLimits(
        memory_bytes=config.prepare_memory_bytes,
        cpu_s=config.prepare_cpu_s,
        file_bytes=config.max_file_bytes,
    )


def _fetch_upload(upload_id: str, workdir: Path) -> str:
    """Opened once, so it is not worth a place in the cache."""
    with transaction() as session:
        upload = session.get_one(Upload, upload_id)
        keys = [part.object_key for part in upload.parts]
    if not keys:
        raise FileNotFoundError(f"the bytes of {upload_id} turned out to be bad and are deleted")
    path = workdir / "upload"
    object_store.fetch(keys, path, upload.sha256)
    return str(path)


def _fetch_checkpoints(job: Job, workdir: Path) -> list[str]:
    """Put the kept checkpoints where the engine looks for them. Returns a sentence for each bad."""
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
