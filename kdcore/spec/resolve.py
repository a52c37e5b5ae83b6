"""From a job as posted to the job as run: every default made explicit, every misfit named."""

from typing import NamedTuple

from kdcore.spec.base import Spec
from kdcore.spec.catalogue import architectures
from kdcore.spec.faults import Fault
from kdcore.spec.job import JobSpec, ResolvedJob
from kdcore.spec.methods import AnyMethod, as_methods, default_label_weight
from kdcore.spec.training import Augmentation, CropFlip, Schedule, Step


class DatasetFacts(Spec):
    """What the resolution must know of a ready data set."""

    source: str
    num_classes: int
    in_channels: int
    image_size: int
    num_train: int


class ModelFacts(Spec):
    """What the resolution must know of a ready model."""

    architecture: str
    num_classes: int
    in_channels: int


class Resolution(NamedTuple):
    """A resolved job, or the faults that forbid it."""

    job: ResolvedJob | None
    faults: list[Fault]
    warnings: list[str]


def resolve(
    spec: JobSpec,
    dataset: DatasetFacts | None,
    teachers: list[ModelFacts | None],
    init: ModelFacts | None,
) -> Resolution:
    """Make every default explicit. A fact that is None was already reported by the caller."""
    methods = as_methods(spec.method or ("kd" if spec.teachers else "supervised"))
    label_weight = default_label_weight(methods) if spec.label_weight is None else spec.label_weight
    faults = _method_faults(spec, methods, label_weight)
    if dataset is not None:
        faults += _class_faults(spec, dataset, teachers)
        faults += _size_faults(spec, dataset)
    if init is not None:
        faults += _init_faults(spec, init, dataset)
    if faults or dataset is None:
        return Resolution(None, faults, [])
    return Resolution(
        _explicit(spec, methods, label_weight, dataset), [], _warnings(spec, label_weight, dataset)
    )


def _explicit(
    spec: JobSpec, methods: tuple[AnyMethod, ...], label_weight: float, dataset: DatasetFacts
) -> ResolvedJob:
    training = spec.training.model_copy(
        update={
            "augmentation": _augmentation(spec.training.augmentation, dataset),
            "schedule": _schedule(spec.training.schedule, spec.training.epochs),
        }
    )
    baseline = bool(spec.teachers) if spec.evaluation.baseline is None else spec.evaluation.baseline
    student = spec.student.model_copy(update={"num_classes": dataset.num_classes})
    return ResolvedJob.model_validate(
        {
            **dict(spec),
            "name": spec.name or _default_name(spec, methods),
            "method": methods,
            "label_weight": label_weight,
            "student": student,
            "training": training,
            "evaluation": spec.evaluation.model_copy(update={"baseline": baseline}),
        }
    )


def _default_name(spec: JobSpec, methods: tuple[AnyMethod, ...]) -> str:
    return f"{spec.student.architecture} by {' + '.join(method.type for method in methods)}"


def _augmentation(augmentation: Augmentation, dataset: DatasetFacts) -> Augmentation:
    if not isinstance(augmentation, CropFlip):
        return augmentation
    padding, flip = augmentation.padding, augmentation.flip
    return CropFlip(
        type="crop_flip",
        padding=max(1, dataset.image_size // 8) if padding is None else padding,
        flip=dataset.source != "builtin:digits" if flip is None else flip,
    )


def _schedule(schedule: Schedule, epochs: int) -> Schedule:
    # The usual CIFAR recipe falls at 150, 180 and 210 of 240 epochs: the same shares of any length.
    if isinstance(schedule, Step) and not schedule.milestones:
        shares = (0.625, 0.75, 0.875)
        milestones = sorted({max(1, round(share * epochs)) for share in shares})
        return schedule.model_copy(update={"milestones": tuple(milestones)})
    return schedule


def _method_faults(
    spec: JobSpec, methods: tuple[AnyMethod, ...], label_weight: float
) -> list[Fault]:
    taught = [method.type for method in methods if method.type != "supervised"]
    faults = []
    if taught and not spec.teachers:
        faults.append(
            Fault(
                pointer="/teachers",
                code="teacher_required",
                detail=f"method {taught[0]} needs a teacher; name one, or choose supervised",
                fix=[{"op": "add", "path": "/method", "value": "supervised"}],
            )
        )
    names = [method.type for method in methods]
    if len(set(names)) < len(names):
        faults.append(
            Fault(
                pointer="/method",
                code="duplicate_method",
                detail="each method may stand in the list once; change its weight instead",
            )
        )
    if not taught and label_weight == 0:
        faults.append(
            Fault(
                pointer="/label_weight",
                code="nothing_to_learn",
                detail="supervised learns from the labels alone, so their weight must be above 0",
                fix=[{"op": "replace", "path": "/label_weight", "value": 1.0}],
            )
        )
    return faults


def _class_faults(
    spec: JobSpec, dataset: DatasetFacts, teachers: list[ModelFacts | None]
) -> list[Fault]:
    faults = []
    if spec.student.num_classes not in (None, dataset.num_classes):
        faults.append(
            Fault(
                pointer="/student/num_classes",
                code="classes_mismatch",
                detail=f"the data set has {dataset.num_classes} classes, the student is asked for "
                f"{spec.student.num_classes}",
                fix=[
                    {
                        "op": "replace",
                        "path": "/student/num_classes",
                        "value": dataset.num_classes,
                    }
                ],
            )
        )
    for position, teacher in enumerate(teachers):
        if teacher is None:
            continue
        if teacher.num_classes != dataset.num_classes:
            faults.append(
                Fault(
                    pointer=f"/teachers/{position}/model",
                    code="classes_mismatch",
                    detail=f"the teacher knows {teacher.num_classes} classes, the data set has "
                    f"{dataset.num_classes}; choose a teacher of the same classes",
                )
            )
        if teacher.in_channels != dataset.in_channels:
            faults.append(
                Fault(
                    pointer=f"/teachers/{position}/model",
                    code="channels_mismatch",
                    detail=f"the teacher takes {teacher.in_channels} channels, the images have "
                    f"{dataset.in_channels}; choose a teacher for such images",
                )
            )
    return faults


def _size_faults(spec: JobSpec, dataset: DatasetFacts) -> list[Fault]:
    smallest = architectures()[spec.student.architecture].min_input_size
    if dataset.image_size >= smallest:
        return []
    return [
        Fault(
            pointer="/student/architecture",
            code="input_too_small",
            detail=f"{spec.student.architecture} needs images of {smallest} pixels or more, "
            f"the data set has {dataset.image_size}",
        )
    ]


def _init_faults(spec: JobSpec, init: ModelFacts, dataset: DatasetFacts | None) -> list[Fault]:
    wanted = (
        spec.student.architecture,
        dataset.num_classes if dataset else init.num_classes,
        dataset.in_channels if dataset else init.in_channels,
    )
    if (init.architecture, init.num_classes, init.in_channels) == wanted:
        return []
    return [
        Fault(
            pointer="/student/init",
            code="init_mismatch",
            detail=f"the model is {init.architecture} with {init.num_classes} classes and "
            f"{init.in_channels} channels; the student is {wanted[0]} with {wanted[1]} classes "
            f"and {wanted[2]} channels",
        )
    ]


def _warnings(spec: JobSpec, label_weight: float, dataset: DatasetFacts) -> list[str]:
    warnings = []
    if spec.training.batch_size > dataset.num_train:
        warnings.append(
            f"the batch of {spec.training.batch_size} is larger than the training split of "
            f"{dataset.num_train} images: an epoch will be one step"
        )
    if spec.teachers and spec.method == "supervised":
        warnings.append("supervised does not learn from the teacher; it is only compared with it")
    return warnings
