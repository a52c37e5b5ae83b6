"""What a request for a job refers to, found also in one that is wrong in any other way."""

from dataclasses import dataclass, field
from typing import Any, Self

from kdcore.schema.base import Spec
from kdcore.schema.presets import filled


class DatasetFacts(Spec):
    """What must be known of a ready data set."""

    source: str
    num_classes: int
    in_channels: int
    image_size: int
    num_train: int
    num_unlabelled: int = 0


class ModelFacts(Spec):
    """What must be known of a ready model."""

    architecture: str
    num_classes: int
    in_channels: int


@dataclass
class TeacherAsked:
    """One teacher as a request names it."""

    model: str | None = None
    class_map: tuple[int, ...] | None = None
    channels: str | None = None
    taps: int = 0
    """How many it names."""


@dataclass
class References:
    """What a job as posted refers to. None where the request has nothing usable at that place."""

    kind: str = "distill"
    dataset: str | None = None
    model: str | None = None
    teachers: list[TeacherAsked] = field(default_factory=list)
    student: bool = False
    """Whether there is a student at all."""
    init: str | None = None
    """The model that it starts from."""
    pretrained: bool = False
    """Whether it starts from published weights."""
    architecture: str | None = None
    has_architecture: bool = False
    """Whether one is given, readable or not."""
    derive: bool = False
    derivation: tuple[str, ...] = ()
    """Fields of a derivation that are set."""
    groups: int | None = None
    student_channels: str | None = None
    student_taps: int = 0
    """How many taps it names."""
    num_classes: int | None = None
    continued: str | None = None
    """The job that this one goes on from."""
    checkpoint: str = "best"
    """And which of its checkpoints."""
    methods: list[str] | None = None
    """Names of the methods, the default included; None where the request's are unreadable."""
    hint_alone: bool = False
    """Whether fitnet is asked for without soft targets: in one stage, or with none of their
    weight."""
    scheme: str | None = "offline"
    companions: tuple[str, ...] = ()
    """Architectures that the scheme names beside the student's: assistants, or peers."""
    label_weight: float | None = None
    class_weights: int | None = None
    """How many are given."""
    kept_logits: int | None = None
    standardized: bool = False
    """Whether some method brings all logits to one scale."""
    augmentations: tuple[str, ...] = ()
    batch_size: int | None = None
    accept: tuple[str, ...] = ()
    """Criteria that are set."""

    @classmethod
    def of(cls, body: object) -> Self:
        """Find them in a body that may be wrong in any other way."""
        whole = dict(filled(_object(body)))
        student, training = _object(whole.get("student")), _object(whole.get("training"))
        teachers = [_teacher(_object(teacher)) for teacher in _list(whole.get("teachers"))]
        scheme = _text(_object(whole.get("scheme")).get("type")) if "scheme" in whole else "offline"
        start = _object(whole.get("from"))
        init, weight = _text(student.get("init")), whole.get("label_weight")
        derivation = ("convolution", "groups", "width")
        class_weights = training.get("class_weights")
        return cls(
            kind=_text(whole.get("kind")) or "distill",
            dataset=_text(whole.get("dataset")),
            model=_text(whole.get("model")),
            teachers=teachers,
            student=whole.get("student") is not None,
            init=None if init in ("random", "pretrained") else init,
            pretrained=init == "pretrained",
            architecture=_text(student.get("architecture")),
            has_architecture=student.get("architecture") is not None,
            derive=student.get("derive") is not None,
            derivation=tuple(key for key in derivation if student.get(key) is not None),
            groups=_int(student.get("groups")),
            student_channels=_text(student.get("channels")),
            student_taps=len(_list(student.get("taps"))),
            num_classes=_int(student.get("num_classes")),
            continued=_text(start.get("job")),
            checkpoint=_text(start.get("checkpoint")) or "best",
            methods=_methods(whole.get("method"), bool(teachers), scheme),
            hint_alone=any(map(_hint_alone, map(_object, _several(whole.get("method"))))),
            scheme=scheme,
            companions=_companions(_object(whole.get("scheme"))),
            label_weight=weight if isinstance(weight, int | float) else None,
            class_weights=len(_list(class_weights)) or None,
            kept_logits=_int(training.get("kept_logits")),
            standardized=_any(whole.get("method"), "logit_standardization"),
            augmentations=_types(training.get("augmentation")),
            batch_size=_int(training.get("batch_size")),
            accept=tuple(k for k, v in _object(whole.get("accept")).items() if v is not None),
        )


def default_method(*, taught: bool, scheme: str | None) -> str:
    """The method of a job that names none: kd where anybody teaches."""
    return "kd" if taught or scheme in ("born_again", "label_refinery") else "supervised"


def _teacher(value: dict[str, Any]) -> TeacherAsked:
    listed = _list(value.get("class_map"))
    whole = listed and all(type(number) is int for number in listed)
    return TeacherAsked(
        model=_text(value.get("model")),
        class_map=tuple(listed) if whole else None,
        channels=_text(value.get("channels")),
        taps=len(_list(value.get("taps"))),
    )


def _methods(value: object, taught: bool, scheme: str | None) -> list[str] | None:
    if value is None:
        return [default_method(taught=taught, scheme=scheme)]
    names = [_text(_object(entry).get("type", entry)) for entry in _several(value)]
    return None if None in names else [name for name in names if name]


def _hint_alone(method: dict[str, Any]) -> bool:
    return method.get("two_stage") is False or method.get("kd_weight") == 0


def _any(value: object, flag: str) -> bool:
    return any(_object(each).get(flag) for each in _several(value))


def _types(value: object) -> tuple[str, ...]:
    names = [_text(_object(entry).get("type")) for entry in _several(value)]
    return tuple(name for name in names if name)


def _companions(scheme: dict[str, Any]) -> tuple[str, ...]:
    listed = _list(scheme.get("assistants")) + _list(scheme.get("peers"))
    return tuple(_text(each) or "" for each in listed)


def _several(value: object) -> list[Any]:
    return _list(value) if isinstance(value, list | tuple) else [value]


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _int(value: object) -> int | None:
    return value if type(value) is int else None
