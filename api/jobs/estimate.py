"""Estimate the trainings, steps, sizes and duration of a job.

The duration comes from finished jobs of the project: of the same pair if there are any, else of
other pairs, scaled by multiply-accumulates (MACs). Without finished jobs it is None.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from api.jobs.schemas import DurationEstimate, JobEstimate
from api.jobs.validation import ValidatedJob
from kdcore.schema.catalog import architectures
from kdcore.schema.job import ResolvedJob, ResolvedStudent
from kdcore.schema.job_kinds import JOB_KINDS
from store.tables import Dataset, Job, Model

_TRAINING_KINDS = [kind.name for kind in JOB_KINDS.values() if kind.trains]
_MAX_FINISHED_JOBS = 50
"""Only the newest jobs count, because workers and software change."""
_BACKWARD_COST = 2
"""Cost of a backward pass in forward passes."""
_SAME_PAIR_MARGIN, _SCALED_MARGIN = 1.3, 2.5
"""Factors between the likely and the lowest or highest duration. The second one is larger, because
MACs do not measure memory traffic."""
_PARAM_BYTES = 4


class _Workload(NamedTuple):
    """The settings that determine the speed of a training."""

    student: str
    teachers: tuple[str, ...]
    methods: tuple[str, ...]
    image_size: int


class _FinishedJob(NamedTuple):
    """The measured speed of a finished job."""

    workload: _Workload
    images_per_s: float
    overhead_s: float
    """Seconds of the job outside of its trainings."""


def estimate_job(session: Session, project_id: str, validated: ValidatedJob) -> JobEstimate:
    """Count the work of a job and estimate its duration from the project's finished jobs."""
    job, dataset = validated.resolved, validated.dataset
    trainings = num_trainings(job)
    steps = job.training.epochs * -(-dataset.num_train // job.training.batch_size)
    images = job.training.epochs * dataset.num_train * trainings
    params = _params(job.student, dataset.num_classes)
    teacher_params = tuple(
        _params_of(teacher.architecture, teacher.num_classes) for teacher in validated.teachers
    )
    workload = _Workload(
        job.student.network,
        tuple(sorted(teacher.architecture for teacher in validated.teachers)),
        tuple(sorted(method.type for method in job.method)),
        dataset.image_size,
    )
    seconds, basis = _estimate_duration(workload, images, list(_finished_jobs(session, project_id)))
    return JobEstimate(
        trainings=trainings,
        steps=steps * trainings,
        images=images,
        student_macs_at_reference=_macs(job.student.network),
        num_params=params,
        student_size_bytes=params and params * _PARAM_BYTES,
        teacher_size_bytes=_total_bytes(teacher_params),
        seconds=seconds if trainings else None,
        basis=basis if trainings else "an evaluation trains no network",
    )


def num_trainings(job: ResolvedJob) -> int:
    """The largest number of networks that the job can train."""
    if job.needs == "model":
        return 0
    phases = job.scheme.max_phases(has_teacher=bool(job.teachers))
    return job.evaluation.seeds * (phases + bool(job.evaluation.baseline))


def _estimate_duration(
    workload: _Workload, images: int, finished_jobs: Sequence[_FinishedJob]
) -> tuple[DurationEstimate | None, str]:
    same = [finished.images_per_s for finished in finished_jobs if finished.workload == workload]
    scaled = [
        speed
        for finished in finished_jobs
        if (speed := _scaled_speed(finished, workload)) is not None
    ]
    speeds, margin = (same, _SAME_PAIR_MARGIN) if same else (scaled, _SCALED_MARGIN)
    if not speeds:
        return None, "the project has no finished job to compare with"
    overhead = statistics.median(finished.overhead_s for finished in finished_jobs)
    jobs = "1 earlier job" if len(speeds) == 1 else f"{len(speeds)} earlier jobs"
    basis = f"{jobs} of this pair" if same else f"{jobs} of other pairs, scaled by their MACs"
    return DurationEstimate(
        low=round(images / max(speeds) / margin + overhead / margin, 1),
        likely=round(images / statistics.median(speeds) + overhead, 1),
        high=round(images / min(speeds) * margin + overhead * margin, 1),
    ), basis


def _scaled_speed(finished: _FinishedJob, workload: _Workload) -> float | None:
    then, now = _work(finished.workload), _work(workload)
    return finished.images_per_s * then / now if then and now else None


def _work(workload: _Workload) -> float | None:
    """MACs of one image of a training step; None for a network outside of the catalog."""
    costs = [(workload.student, 1 + _BACKWARD_COST), *((name, 1) for name in workload.teachers)]
    total = 0.0
    for name, passes in costs:
        entry = architectures().get(name)
        if entry is None:
            return None
        total += passes * entry.macs * (workload.image_size / entry.input_size) ** 2
    return total


def _finished_jobs(session: Session, project_id: str) -> Iterable[_FinishedJob]:
    """The newest succeeded jobs of the project that reported their throughput."""
    query = (
        select(
            *(Job.resolved, Job.summary, Job.device_s, Job.methods, Job.model_ids),
            # Single values instead of the whole info, which has thousands of class names.
            *(Dataset.info[("splits", "train", "count")], Dataset.info["image_size"]),
        )
        .join(Dataset, Dataset.id == Job.dataset_id)
        .where(Job.project_id == project_id, Job.queue == "train", Job.kind.in_(_TRAINING_KINDS))
        .where(Job.state == "succeeded")
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(_MAX_FINISHED_JOBS)
    )
    rows = session.execute(query).all()
    model_ids = {model for row in rows for model in row.model_ids}
    architectures_query = select(Model.id, Model.architecture).where(Model.id.in_(model_ids))
    names = {row[0]: row[1] or "" for row in session.execute(architectures_query)}
    for resolved, summary, device_s, methods, _, num_train, image_size in rows:
        speed = summary.get("train/images_per_s")
        finished = _read_settings(resolved)
        if finished is None or not (_is_positive(speed) and _is_positive(num_train)):
            continue
        images = finished.training.epochs * num_train * num_trainings(finished)
        workload = _Workload(
            finished.student.network,
            tuple(sorted(names.get(teacher.model, "") for teacher in finished.teachers)),
            tuple(sorted(methods)),
            image_size,
        )
        yield _FinishedJob(workload, speed, max(0.0, device_s - images / speed))


def _read_settings(resolved: Any) -> ResolvedJob | None:
    """The settings of a finished job; None if this version does not accept them."""
    try:
        return ResolvedJob.model_validate(resolved)
    except ValidationError:
        return None


def _is_positive(value: Any) -> bool:
    """Whether a stored value is a positive finite number."""
    return isinstance(value, int | float) and 0 < value < math.inf


def _macs(name: str) -> int | None:
    """MACs at the reference input; None for a derived network, which is not in the catalog."""
    entry = architectures().get(name)
    return entry.macs if entry else None


def _params(student: ResolvedStudent, num_classes: int) -> int | None:
    return None if student.derive else _params_of(student.architecture, num_classes)


def _params_of(name: str, num_classes: int) -> int | None:
    """Number of parameters with ``num_classes`` outputs; None for a derived network."""
    entry = architectures().get(name)
    if entry is None or entry.pooled_features is None:
        return None
    return entry.num_params + (num_classes - entry.num_classes) * (entry.pooled_features + 1)


def _total_bytes(params: tuple[int | None, ...]) -> int | None:
    known_params = [count for count in params if count is not None]
    return (
        sum(known_params) * _PARAM_BYTES
        if known_params and len(known_params) == len(params)
        else None
    )
