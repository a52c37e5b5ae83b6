"""From a job as posted to the job as run: every default made explicit."""

import math

from kdcore.schema.assistant_selection import propose
from kdcore.schema.augmentation import AnyAugmentation, AugmentationField, as_augmentations
from kdcore.schema.dataset_sources import mirrors
from kdcore.schema.derived_name import parse
from kdcore.schema.job import (
    EvaluationPlan,
    JobSpec,
    ResolvedJob,
    ResolvedStudent,
    Student,
    rule_between,
)
from kdcore.schema.methods import DKD, AnyMethod, as_methods, default_label_weight
from kdcore.schema.schemes import AnyScheme, Mutual, Offline, TeacherAssistant
from kdcore.schema.training import Schedule, Step, Training
from kdcore.schema.validation.partial_job import DatasetFacts, ModelFacts, default_method

_DKD_WARMUP_EPOCHS = 20
_GROUPS = 8


def methods_of(spec: JobSpec) -> tuple[AnyMethod, ...]:
    """The job's methods: kd where anybody teaches and it says nothing, else supervised."""
    default = default_method(taught=bool(spec.teachers), scheme=spec.scheme.type)
    return as_methods(spec.method or default)  # type: ignore[arg-type]


def label_weight_of(spec: JobSpec) -> float:
    """The weight of cross-entropy with the true labels."""
    if spec.label_weight is not None:
        return spec.label_weight
    return default_label_weight(methods_of(spec))


def resolve(
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
            "evaluation": _plan(spec),
        }
    )


def _plan(spec: JobSpec) -> EvaluationPlan:
    if spec.kind == "evaluate":
        # Nothing is trained, so there is nothing to repeat and nobody beside it.
        return EvaluationPlan(baseline=False, seeds=1)
    asked = spec.evaluation.baseline
    baseline = bool(spec.teachers) if asked is None else asked
    return spec.evaluation.model_copy(update={"baseline": baseline})


def warnings(spec: JobSpec, dataset: DatasetFacts) -> list[str]:
    """What is allowed and yet probably not meant."""
    found: list[str] = []
    if spec.kind == "evaluate":
        return found
    if spec.training.batch_size > dataset.num_train:
        found.append(
            f"the batch of {spec.training.batch_size} is larger than the training split of "
            f"{dataset.num_train} images: an epoch will be one step"
        )
    methods = methods_of(spec)
    if spec.teachers and all(method.type == "supervised" for method in methods):
        found.append("supervised does not learn from the teacher; it is only compared with it")
    if dataset.num_classes == 2 and any(method.type == "dkd" for method in methods):
        found.append("with two classes dkd has no term of the other classes: kd says the same")
    return found


def _student(
    spec: JobSpec,
    dataset: DatasetFacts,
    teachers: tuple[ModelFacts, ...],
    model: ModelFacts | None,
) -> ResolvedStudent:
    given = spec.student or Student(init=spec.model or "random")
    values = dict(given) | {"num_classes": dataset.num_classes}
    if spec.kind == "evaluate":
        if model is None:
            raise ValueError("an evaluation needs its model to be resolved")
        values |= _as_student(model.architecture)
        # Whatever was trained by a rule is measured by it: nobody could name it in an evaluation.
        values["channels"] = rule_between(dataset.in_channels, model.in_channels)
    elif given.derive:
        values |= {
            "architecture": teachers[0].architecture,
            "convolution": given.convolution or "grouped",
            "groups": given.groups or _GROUPS,
            "width": given.width or 1.0,
        }
        if given.convolution == "depthwise_separable":
            # Its groups are the channels of each layer.
            values["groups"] = None
    return ResolvedStudent.model_validate(values)


def _as_student(network: str) -> dict[str, object]:
    made = parse(network)
    return {"architecture": network} if made is None else {"derive": "teacher", **made._asdict()}


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
            assistants = propose(*ends, scheme.num_assistants, methods)
        # As many as there are, whoever chose them.
        update = {"assistants": assistants, "num_assistants": len(assistants)}
        return scheme.model_copy(update=update)
    return scheme


def _default_name(spec: JobSpec, student: ResolvedStudent, methods: tuple[AnyMethod, ...]) -> str:
    if spec.kind == "evaluate":
        return f"evaluation of {student.architecture}"
    derived = "derived from " if student.derive else ""
    arranged = "" if spec.scheme.type == "offline" else f", {spec.scheme.type}"
    taught = " + ".join(method.type for method in methods)
    return f"{derived}{student.architecture} by {taught}{arranged}"


def _training(training: Training, dataset: DatasetFacts) -> Training:
    return training.model_copy(
        update={
            "augmentation": _augmentation(training.augmentation, dataset),
            "schedule": _schedule(training.schedule, training.epochs),
        }
    )


def _augmentation(field: AugmentationField, dataset: DatasetFacts) -> AugmentationField:
    filled = tuple(_filled(each, dataset) for each in as_augmentations(field))
    return filled if isinstance(field, tuple) else filled[0]


def _filled(augmentation: AnyAugmentation, dataset: DatasetFacts) -> AnyAugmentation:
    side = dataset.image_size
    defaults = {
        "padding": max(1, side // 8),
        # Digits have a handedness.
        "flip": mirrors(dataset.source),
        "size": max(1, side // 4),
    }
    missing = {name for name, value in augmentation if value is None}
    return augmentation.model_copy(update={name: defaults[name] for name in missing})


def _schedule(schedule: Schedule, epochs: int) -> Schedule:
    # The usual CIFAR recipe falls at 150, 180 and 210 of 240 epochs: the same shares of any length.
    if isinstance(schedule, Step) and not schedule.milestones:
        shares = (0.625, 0.75, 0.875)
        milestones = sorted({max(1, round(share * epochs)) for share in shares})
        return schedule.model_copy(update={"milestones": tuple(milestones)})
    return schedule
