"""From a job as posted to the job as run: every default made explicit."""

from kdcore.spec.fit import DatasetFacts
from kdcore.spec.job import JobSpec, ResolvedJob
from kdcore.spec.methods import AnyMethod, as_methods, default_label_weight
from kdcore.spec.training import Augmentation, CropFlip, Schedule, Step


def methods_of(spec: JobSpec) -> tuple[AnyMethod, ...]:
    """The job's methods: kd where it has a teacher and says nothing, else supervised."""
    return as_methods(spec.method or ("kd" if spec.teachers else "supervised"))


def label_weight_of(spec: JobSpec) -> float:
    """The weight of cross-entropy with the true labels."""
    return (
        default_label_weight(methods_of(spec)) if spec.label_weight is None else spec.label_weight
    )


def resolve(spec: JobSpec, dataset: DatasetFacts) -> ResolvedJob:
    """The same job with every default explicit, for a data set that it fits."""
    methods = methods_of(spec)
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
            "label_weight": label_weight_of(spec),
            "student": student,
            "training": training,
            "evaluation": spec.evaluation.model_copy(update={"baseline": baseline}),
        }
    )


def warnings(spec: JobSpec, dataset: DatasetFacts) -> list[str]:
    """What is allowed and yet probably not meant."""
    found = []
    if spec.training.batch_size > dataset.num_train:
        found.append(
            f"the batch of {spec.training.batch_size} is larger than the training split of "
            f"{dataset.num_train} images: an epoch will be one step"
        )
    if spec.teachers and all(method.type == "supervised" for method in methods_of(spec)):
        found.append("supervised does not learn from the teacher; it is only compared with it")
    return found


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
