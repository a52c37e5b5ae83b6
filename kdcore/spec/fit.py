"""Whether the parts of a job fit each other: classes, channels, image size.

Works on what a request refers to, not on a whole valid request: a misfit is told in the same answer
as a temperature of 0.
"""

from dataclasses import dataclass, field
from typing import Any, Self

from kdcore.spec.base import Spec
from kdcore.spec.catalogue import architectures
from kdcore.spec.faults import Fault


class DatasetFacts(Spec):
    """What must be known of a ready data set."""

    source: str
    num_classes: int
    in_channels: int
    image_size: int
    num_train: int


class ModelFacts(Spec):
    """What must be known of a ready model."""

    architecture: str
    num_classes: int
    in_channels: int


@dataclass
class References:
    """What a job as posted refers to. None where the request has nothing usable at that place."""

    dataset: str | None = None
    teachers: list[str | None] = field(default_factory=list)
    init: str | None = None
    architecture: str | None = None
    num_classes: int | None = None
    methods: list[str] | None = None
    """Names of the methods, the default included; None where the request's are unreadable."""
    label_weight: float | None = None
    accept: tuple[str, ...] = ()
    """Criteria that are set."""

    @classmethod
    def of(cls, body: object) -> Self:
        """Find them in a body that may be wrong in any other way."""
        whole = _object(body)
        student = _object(whole.get("student"))
        listed = whole.get("teachers")
        teachers = listed if isinstance(listed, list | tuple) else []
        init = _text(student.get("init"))
        num_classes, weight = student.get("num_classes"), whole.get("label_weight")
        return cls(
            dataset=_text(whole.get("dataset")),
            teachers=[_text(_object(teacher).get("model")) for teacher in teachers],
            init=None if init == "random" else init,
            architecture=_text(student.get("architecture")),
            num_classes=num_classes if type(num_classes) is int else None,
            methods=_methods(whole.get("method"), taught=bool(teachers)),
            label_weight=weight if isinstance(weight, int | float) else None,
            accept=tuple(k for k, v in _object(whole.get("accept")).items() if v is not None),
        )


def _methods(value: object, *, taught: bool) -> list[str] | None:
    if value is None:
        return ["kd" if taught else "supervised"]
    listed = value if isinstance(value, list | tuple) else [value]
    names = [_text(_object(entry).get("type", entry)) for entry in listed]
    return None if None in names else [name for name in names if name]


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def misfits(
    asked: References,
    dataset: DatasetFacts,
    teachers: list[ModelFacts | None],
    init: ModelFacts | None,
) -> list[Fault]:
    """Every way in which the student, the teachers and the data set do not fit each other."""
    faults = [*_student_faults(asked, dataset), *_init_faults(asked, init, dataset)]
    for position, teacher in enumerate(teachers):
        if teacher is not None:
            faults += _teacher_faults(f"/teachers/{position}/model", teacher, dataset)
    return faults


def _student_faults(asked: References, dataset: DatasetFacts) -> list[Fault]:
    faults = []
    if asked.num_classes not in (None, dataset.num_classes):
        pointer = "/student/num_classes"
        faults.append(
            Fault(
                pointer=pointer,
                code="classes_mismatch",
                detail=f"the data set has {dataset.num_classes} classes, the student is asked for "
                f"{asked.num_classes}",
                fix=[{"op": "replace", "path": pointer, "value": dataset.num_classes}],
            )
        )
    entry = architectures().get(asked.architecture or "")
    if entry and dataset.image_size < entry.min_input_size:
        faults.append(
            Fault(
                pointer="/student/architecture",
                code="input_too_small",
                detail=f"{entry.name} needs images of {entry.min_input_size} pixels or more, "
                f"the data set has {dataset.image_size}",
            )
        )
    return faults


def _teacher_faults(pointer: str, teacher: ModelFacts, dataset: DatasetFacts) -> list[Fault]:
    faults = []
    if teacher.num_classes != dataset.num_classes:
        faults.append(
            Fault(
                pointer=pointer,
                code="classes_mismatch",
                detail=f"the teacher knows {teacher.num_classes} classes, the data set has "
                f"{dataset.num_classes}; choose a teacher of the same classes",
            )
        )
    if teacher.in_channels != dataset.in_channels:
        faults.append(
            Fault(
                pointer=pointer,
                code="channels_mismatch",
                detail=f"the teacher takes {teacher.in_channels} channels, the images have "
                f"{dataset.in_channels}; choose a teacher for such images",
            )
        )
    return faults


def _init_faults(asked: References, init: ModelFacts | None, dataset: DatasetFacts) -> list[Fault]:
    if init is None:
        return []
    wanted = (asked.architecture, dataset.num_classes, dataset.in_channels)
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
