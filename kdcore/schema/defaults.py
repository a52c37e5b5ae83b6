"""resolve_job: from a job as posted to the job as run, with every default explicit."""

from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.augmentation import AnyAugmentation, AugmentationField, as_augmentations
from kdcore.schema.dataset_sources import allows_flip
from kdcore.schema.derived_name import parse_derived_name
from kdcore.schema.job import (
    EvaluationPlan,
    JobSpec,
    ResolvedJob,
    ResolvedStudent,
    Student,
    channel_rule,
)
from kdcore.schema.job_kinds import JOB_KINDS
from kdcore.schema.methods import AnyMethod, as_methods
from kdcore.schema.schemes import SchemeNetworks
from kdcore.schema.schemes.offline import Offline
from kdcore.schema.training_config import Schedule, StepSchedule, TrainingConfig
from kdcore.schema.validation.class_matching import class_warning, match_classes

_GROUPS = 8


def resolve_job(
    spec: JobSpec,
    dataset: DatasetFacts,
    teachers: tuple[ModelFacts, ...] = (),
    model: ModelFacts | None = None,
    init: ModelFacts | None = None,
) -> ResolvedJob:
    """Return the same job with every default explicit, for its data set and models.

    ``teachers`` are all of the job's; ``model`` is the one that an evaluation measures, ``init``
    the one that the student starts from. Classes are matched by name. Raises ``ValueError`` for an
    evaluation without a model.
    """
    measured = spec.needs == "model"
    methods = tuple(method.with_defaults(spec.training.epochs) for method in spec.methods)
    student = _student(spec, dataset, teachers, model)
    student = student.model_copy(update={"class_map": _class_map(model or init, dataset)})
    references = spec.references()
    for reference, facts in zip(references["teachers"], teachers, strict=False):
        reference["class_map"] = reference["class_map"] or _class_map(facts, dataset)
    scheme = spec.scheme.with_defaults(_networks(spec, student, teachers))
    return ResolvedJob.model_validate(
        {
            **{name: value for name, value in spec if name in ResolvedJob.model_fields},
            **references,
            "name": spec.name or _default_name(spec, student, methods),
            "method": as_methods("supervised") if measured else methods,
            "label_weight": spec.effective_label_weight(),
            "student": student,
            "scheme": Offline() if measured else scheme,
            "training": _training(spec.training, dataset),
            "exports": ("safetensors", *(e for e in spec.exports if e != "safetensors")),
            "evaluation": _evaluation_plan(spec),
        }
    )


def _class_map(model: ModelFacts | None, dataset: DatasetFacts) -> tuple[int, ...] | None:
    if model is None:
        return None
    match = match_classes(dataset.classes, model.class_names, model.num_classes)
    return None if match is None else match.class_map


def _evaluation_plan(spec: JobSpec) -> EvaluationPlan:
    if spec.needs == "model":
        # Nothing is trained: no baseline, and no second seed.
        return EvaluationPlan(baseline=False, seeds=1)
    requested = spec.evaluation.baseline
    baseline = bool(spec.teachers) if requested is None else requested
    return spec.evaluation.model_copy(update={"baseline": baseline})


def job_warnings(spec: JobSpec, dataset: DatasetFacts) -> list[str]:
    """Settings that are valid and probably a mistake, as sentences."""
    messages: list[str] = []
    if spec.needs == "model":
        return messages
    if spec.training.batch_size > dataset.num_train:
        messages.append(
            f"batch_size is {spec.training.batch_size}, and the training split has "
            f"{dataset.num_train} images: each epoch is one step"
        )
    if spec.teachers and not any(method.uses_teacher for method in spec.methods):
        messages.append("no method uses the teacher: the report only compares it with the student")
    warnings = (method.warning(dataset.num_classes) for method in spec.methods)
    return messages + [warning for warning in warnings if warning is not None]


def model_warnings(
    job: ResolvedJob,
    dataset: DatasetFacts,
    teachers: tuple[ModelFacts, ...] = (),
    start: ModelFacts | None = None,
) -> list[str]:
    """Classes that names do not match, and input sizes that are assumed, as sentences.

    ``start`` is the model that is evaluated, or that the student starts from.
    """
    noun = "model" if job.needs == "model" else "student's initial model"
    models = [
        *(
            ("teacher", facts, teacher.class_map)
            for facts, teacher in zip(teachers, job.teachers, strict=True)
        ),
        *([(noun, start, job.student.class_map)] if start is not None else []),
    ]
    warnings = (
        class_warning(name, dataset.classes, facts.class_names, facts.num_classes, class_map)
        for name, facts, class_map in models
    )
    sizes = [("teacher", facts.assumed_input_size) for facts in teachers]
    if start is not None and not job.trains:
        sizes.append((noun, start.assumed_input_size))
    size_warnings = (input_size_warning(name, size, dataset.image_size) for name, size in sizes)
    return [warning for warning in (*warnings, *size_warnings) if warning is not None]


def input_size_warning(noun: str, assumed_size: int | None, image_size: int) -> str | None:
    """Return a sentence about an input size that is assumed and not the data set's, or None.

    ``assumed_size`` is the architecture's default in pixels, None for a size that is declared.
    """
    if assumed_size is None or assumed_size == image_size:
        return None
    return (
        f"input_size of the {noun} was not given; {assumed_size} is assumed, the data set's images "
        f"have {image_size}: if it was trained at another size, create the model again with its "
        "input_size"
    )


def _student(
    spec: JobSpec,
    dataset: DatasetFacts,
    teachers: tuple[ModelFacts, ...],
    model: ModelFacts | None,
) -> ResolvedStudent:
    student = spec.student or Student()
    values = dict(student) | {"num_classes": dataset.num_classes}
    if spec.needs == "model":
        if model is None:
            raise ValueError("resolve_job needs the model of an evaluation")
        values |= _student_fields(model.architecture) | {"init": spec.references()["model"]}
        # An evaluation has no field for the rule, so it follows from both numbers of channels.
        values["channels"] = channel_rule(dataset.in_channels, model.in_channels)
    elif student.derive:
        values |= {
            "architecture": teachers[0].architecture,
            "convolution": student.convolution or "grouped",
            "groups": student.groups or _GROUPS,
            "width": student.width or 1.0,
        }
        if student.convolution == "depthwise_separable":
            # Each layer has as many groups as channels.
            values["groups"] = None
    return ResolvedStudent.model_validate(values)


def _student_fields(network: str) -> dict[str, object]:
    derived = parse_derived_name(network)
    return (
        {"architecture": network} if derived is None else {"derive": "teacher", **derived._asdict()}
    )


def _networks(
    spec: JobSpec, student: ResolvedStudent, teachers: tuple[ModelFacts, ...]
) -> SchemeNetworks:
    return SchemeNetworks(
        student=student.architecture,
        teacher=teachers[0].architecture if teachers else None,
        methods=tuple(method.type for method in spec.methods),
        student_is_derived=student.derive is not None,
        student_has_taps=student.taps is not None,
    )


def _default_name(spec: JobSpec, student: ResolvedStudent, methods: tuple[AnyMethod, ...]) -> str:
    if spec.needs == "model":
        return f"{JOB_KINDS[spec.kind].title} of {student.architecture}"
    derived = "derived from " if student.derive else ""
    method_names = " + ".join(method.type for method in methods)
    return f"{derived}{student.architecture} by {method_names}{spec.scheme.name_suffix}"


def _training(training: TrainingConfig, dataset: DatasetFacts) -> TrainingConfig:
    return training.model_copy(
        update={
            "augmentation": _augmentation(training.augmentation, dataset),
            "schedule": _schedule(training.schedule, training.epochs),
        }
    )


def _augmentation(field: AugmentationField, dataset: DatasetFacts) -> AugmentationField:
    augmentations = tuple(
        _with_defaults(augmentation, dataset) for augmentation in as_augmentations(field)
    )
    return augmentations if isinstance(field, tuple) else augmentations[0]


def _with_defaults(augmentation: AnyAugmentation, dataset: DatasetFacts) -> AnyAugmentation:
    side = dataset.image_size
    defaults = {
        "padding": max(1, side // 8),
        # Digits have a handedness.
        "flip": allows_flip(dataset.source),
        "size": max(1, side // 4),
    }
    missing = {name for name, value in augmentation if value is None}
    return augmentation.model_copy(update={name: defaults[name] for name in missing})


def _schedule(schedule: Schedule, epochs: int) -> Schedule:
    # The usual CIFAR recipe falls at 150, 180 and 210 of 240 epochs: the same shares of any length.
    if isinstance(schedule, StepSchedule) and not schedule.milestones:
        shares = (0.625, 0.75, 0.875)
        milestones = sorted({max(1, round(share * epochs)) for share in shares})
        return schedule.model_copy(update={"milestones": tuple(milestones)})
    return schedule
