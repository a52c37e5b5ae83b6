"""From a job as posted to the job as run: every default made explicit."""

import math

from kdcore.schema.assistant_selection import propose_assistants
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
from kdcore.schema.methods import DKD, AnyMethod, as_methods, default_label_weight
from kdcore.schema.schemes import AnyScheme, Mutual, Offline, TeacherAssistant
from kdcore.schema.training import Schedule, StepSchedule, TrainingConfig
from kdcore.schema.validation.partial_job import DatasetFacts, ModelFacts, default_method

_DKD_WARMUP_EPOCHS = 20
_GROUPS = 8


def methods_of(spec: JobSpec) -> tuple[AnyMethod, ...]:
    """The job's methods: kd where anybody teaches and it says nothing, else supervised."""
    default = default_method(has_teacher=bool(spec.teachers), scheme=spec.scheme.type)
    return as_methods(spec.method or default)  # type: ignore[arg-type]


def label_weight_of(spec: JobSpec) -> float:
    """The weight of cross-entropy with the true labels."""
    if spec.label_weight is not None:
        return spec.label_weight
    return default_label_weight(methods_of(spec))


def resolve_job(
    spec: JobSpec,
    dataset: DatasetFacts,
    teachers: tuple[ModelFacts, ...] = (),
    model: ModelFacts | None = None,
) -> ResolvedJob:
    """The same job with every default explicit, for the data set and the models that it fits.

    ``model`` is what an evaluation measures. Raises ``ValueError`` for a job with contradictions.
    """
    measured = spec.kind == "evaluate"
    methods = tuple(_method(method, spec.training.epochs) for method in methods_of(spec))
    student = _student(spec, dataset, teachers, model)
    return ResolvedJob.model_validate(
        {
            **dict(spec),
            "name": spec.name or _default_name(spec, student, methods),
            "method": as_methods("supervised") if measured else methods,
            "label_weight": label_weight_of(spec),
            "student": student,
            "scheme": Offline() if measured else _scheme(spec, student, teachers),
            "training": _training(spec.training, dataset),
            "exports": ("safetensors", *(e for e in spec.exports if e != "safetensors")),
            "evaluation": _evaluation_plan(spec),
        }
    )


def _evaluation_plan(spec: JobSpec) -> EvaluationPlan:
    if spec.kind == "evaluate":
        # Nothing is trained, so there is nothing to repeat and nobody beside it.
        return EvaluationPlan(baseline=False, seeds=1)
    requested = spec.evaluation.baseline
    baseline = bool(spec.teachers) if requested is None else requested
    return spec.evaluation.model_copy(update={"baseline": baseline})


def job_warnings(spec: JobSpec, dataset: DatasetFacts) -> list[str]:
    """What is allowed and yet probably not meant."""
    messages: list[str] = []
    if spec.kind == "evaluate":
        return messages
    if spec.training.batch_size > dataset.num_train:
        messages.append(
            f"the batch of {spec.training.batch_size} is larger than the training split of "
            f"{dataset.num_train} images: an epoch will be one step"
        )
    methods = methods_of(spec)
    if spec.teachers and all(method.type == "supervised" for method in methods):
        messages.append("supervised does not learn from the teacher; it is only compared with it")
    if dataset.num_classes == 2 and any(method.type == "dkd" for method in methods):
        messages.append("with two classes dkd has no term of the other classes: kd says the same")
    return messages


def _student(
    spec: JobSpec,
    dataset: DatasetFacts,
    teachers: tuple[ModelFacts, ...],
    model: ModelFacts | None,
) -> ResolvedStudent:
    student = spec.student or Student(init=spec.model or "random")
    values = dict(student) | {"num_classes": dataset.num_classes}
    if spec.kind == "evaluate":
        if model is None:
            raise ValueError("an evaluation needs its model to be resolved")
        values |= _student_fields(model.architecture)
        # Whatever was trained by a rule is measured by it: nobody could name it in an evaluation.
        values["channels"] = channel_rule(dataset.in_channels, model.in_channels)
    elif student.derive:
        values |= {
            "architecture": teachers[0].architecture,
            "convolution": student.convolution or "grouped",
            "groups": student.groups or _GROUPS,
            "width": student.width or 1.0,
        }
        if student.convolution == "depthwise_separable":
            # Its groups are the channels of each layer.
            values["groups"] = None
    return ResolvedStudent.model_validate(values)


def _student_fields(network: str) -> dict[str, object]:
    derived = parse_derived_name(network)
    return (
        {"architecture": network} if derived is None else {"derive": "teacher", **derived._asdict()}
    )


def _method(method: AnyMethod, epochs: int) -> AnyMethod:
    if isinstance(method, DKD) and method.warmup_epochs is None:
        fifth = max(1, math.ceil(epochs / 5))
        return method.model_copy(update={"warmup_epochs": min(_DKD_WARMUP_EPOCHS, fifth)})
    return method


def _scheme(spec: JobSpec, student: ResolvedStudent, teachers: tuple[ModelFacts, ...]) -> AnyScheme:
    scheme = spec.scheme
    if isinstance(scheme, Mutual) and scheme.peers is None and not (student.derive or student.taps):
        # What is derived or tapped has no such name, and stays "one more of the same".
        return scheme.model_copy(update={"peers": (student.architecture,)})
    if isinstance(scheme, TeacherAssistant):
        assistants = scheme.assistants
        if assistants is None:
            ends = teachers[0].architecture, student.architecture
            methods = [method.type for method in methods_of(spec)]
            assistants = propose_assistants(*ends, scheme.num_assistants, methods)
        # As many as there are, whoever chose them.
        update = {"assistants": assistants, "num_assistants": len(assistants)}
        return scheme.model_copy(update=update)
    return scheme


def _default_name(spec: JobSpec, student: ResolvedStudent, methods: tuple[AnyMethod, ...]) -> str:
    if spec.kind == "evaluate":
        return f"evaluation of {student.architecture}"
    derived = "derived from " if student.derive else ""
    scheme_suffix = "" if spec.scheme.type == "offline" else f", {spec.scheme.type}"
    method_names = " + ".join(method.type for method in methods)
    return f"{derived}{student.architecture} by {method_names}{scheme_suffix}"


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
