"""What a job would amount to: trainings, steps, sizes, and how long that took earlier jobs.

Seconds are never made up: they come from the project's own finished jobs, of the same pair where
there are such, else scaled by multiply-accumulates. Without any they are not told.
"""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.jobs.schemas import Estimate, Seconds
from api.jobs.validation import Admitted
from kdcore.schema.catalog import architectures
from kdcore.schema.job import ResolvedJob, ResolvedStudent
from kdcore.schema.schemes import most_phases
from store.tables import Dataset, Job, Model

_LOOKED_AT = 50
"""Of the newest finished jobs: the fleet of last year says little of today's."""
_BACKWARD = 2
"""The gradients of a network cost about two forward passes."""
_SAME, _SCALED = 1.3, 2.5
"""By which factor a training may differ from the likely time: of the same pair, and scaled by MACs,
which say nothing of memory traffic."""
_PARAM_BYTES = 4


class _Pair(NamedTuple):
    """What decides how fast a training is."""

    student: str
    teachers: tuple[str, ...]
    methods: tuple[str, ...]
    image_size: int


class _Measured(NamedTuple):
    """A finished job's speed."""

    pair: _Pair
    images_per_s: float
    overhead_s: float
    """What the job took beside its trainings."""


def estimate_of(session: Session, project_id: str, admitted: Admitted) -> Estimate:
    """Count the job's work, and hold it against the project's finished jobs."""
    job, dataset = admitted.resolved, admitted.dataset
    trainings = num_trainings(job)
    steps = job.training.epochs * -(-dataset.num_train // job.training.batch_size)
    images = job.training.epochs * dataset.num_train * trainings
    params = _params(job.student, dataset.num_classes)
    seen = tuple(_params_of(each.architecture, each.num_classes) for each in admitted.teachers)
    pair = _Pair(
        job.student.network,
        tuple(sorted(teacher.architecture for teacher in admitted.teachers)),
        tuple(sorted(method.type for method in job.method)),
        dataset.image_size,
    )
    seconds, basis = _seconds(pair, images, list(_measured(session, project_id)))
    return Estimate(
        trainings=trainings,
        steps=steps * trainings,
        images=images,
        student_macs_at_reference=_macs(job.student.network),
        num_params=params,
        student_size_bytes=params and params * _PARAM_BYTES,
        teacher_size_bytes=_total(seen),
        seconds=seconds if trainings else None,
        basis=basis if trainings else "an evaluation trains nothing",
    )


def num_trainings(job: ResolvedJob) -> int:
    """How many networks the job trains at most."""
    if job.kind == "evaluate":
        return 0
    phases = most_phases(job.scheme, taught=bool(job.teachers))
    return job.evaluation.seeds * (phases + bool(job.evaluation.baseline))


def _seconds(pair: _Pair, images: int, known: Sequence[_Measured]) -> tuple[Seconds | None, str]:
    same = [each.images_per_s for each in known if each.pair == pair]
    scaled = [speed for each in known if (speed := _scaled(each, pair)) is not None]
    found, margin = (same, _SAME) if same else (scaled, _SCALED)
    if not found:
        return None, "no finished job of this project says how fast such a training is"
    overhead = statistics.median(each.overhead_s for each in known)
    jobs = "1 earlier job" if len(found) == 1 else f"{len(found)} earlier jobs"
    basis = f"{jobs} of this pair" if same else f"{jobs} of other pairs, scaled by their MACs"
    return Seconds(
        low=round(images / max(found) / margin + overhead / margin, 1),
        likely=round(images / statistics.median(found) + overhead, 1),
        high=round(images / min(found) * margin + overhead * margin, 1),
    ), basis


def _scaled(known: _Measured, pair: _Pair) -> float | None:
    then, now = _work(known.pair), _work(pair)
    return known.images_per_s * then / now if then and now else None


def _work(pair: _Pair) -> float | None:
    """MACs of one image of a step; None where a network's are not known."""
    costs = [(pair.student, 1 + _BACKWARD), *((name, 1) for name in pair.teachers)]
    total = 0.0
    for name, passes in costs:
        entry = architectures().get(name)
        if entry is None:
            return None
        total += passes * entry.macs * (pair.image_size / entry.input_size) ** 2
    return total


def _measured(session: Session, project_id: str) -> Iterable[_Measured]:
    """The newest finished trainings of the project that told their throughput."""
    query = (
        select(
            *(Job.resolved, Job.summary, Job.device_s, Job.methods, Job.model_ids),
            # Not the classes' names and counts: a thousand of each in every row.
            *(Dataset.info[("splits", "train", "count")], Dataset.info["image_size"]),
        )
        .join(Dataset, Dataset.id == Job.dataset_id)
        .where(Job.project_id == project_id, Job.lane == "train", Job.kind == "distill")
        .where(Job.state == "succeeded")
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(_LOOKED_AT)
    )
    rows = session.execute(query).all()
    wanted = {model for row in rows for model in row.model_ids}
    found = select(Model.id, Model.architecture).where(Model.id.in_(wanted))
    names: dict[str, str] = {row[0]: row[1] for row in session.execute(found)}
    for resolved, summary, device_s, methods, _, num_train, image_size in rows:
        speed = summary.get("train/images_per_s")
        if not speed or not num_train:
            continue
        own = ResolvedJob.model_validate({k: v for k, v in resolved.items() if k != "chosen"})
        images = own.training.epochs * num_train * num_trainings(own)
        pair = _Pair(
            own.student.network,
            tuple(sorted(names.get(teacher.model, "") for teacher in own.teachers)),
            tuple(sorted(methods)),
            image_size,
        )
        yield _Measured(pair, speed, max(0.0, device_s - images / speed))


def _macs(name: str) -> int | None:
    """Of a derived network nobody knows before it is built."""
    entry = architectures().get(name)
    return entry.macs if entry else None


def _params(student: ResolvedStudent, num_classes: int) -> int | None:
    return None if student.derive else _params_of(student.architecture, num_classes)


def _params_of(name: str, num_classes: int) -> int | None:
    """Parameters with another classifier than the catalogue's; None for a derived network."""
    entry = architectures().get(name)
    if entry is None or entry.pooled_features is None:
        return None
    return entry.num_params + (num_classes - entry.num_classes) * (entry.pooled_features + 1)


def _total(params: tuple[int | None, ...]) -> int | None:
    known = [each for each in params if each is not None]
    return sum(known) * _PARAM_BYTES if known and len(known) == len(params) else None
