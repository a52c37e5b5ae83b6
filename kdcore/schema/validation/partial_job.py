"""What a request for a job refers to, found also in one that is wrong in any other way."""

from dataclasses import dataclass, field
from typing import Any, Self

from kdcore.schema.base import FrozenModel
from kdcore.schema.presets import apply_preset


class DatasetFacts(FrozenModel):
    """What must be known of a ready data set."""

    source: str
    num_classes: int
    in_channels: int
    image_size: int
    num_train: int
    num_unlabeled: int = 0


class ModelFacts(FrozenModel):
    """What must be known of a ready model."""

    architecture: str
    num_classes: int
    in_channels: int


@dataclass
class PartialTeacher:
    """One teacher as a request names it."""

    model: str | None = None
    class_map: tuple[int, ...] | None = None
    channels: str | None = None
    num_taps: int = 0
    """How many it names."""


@dataclass
class PartialJob:
    """What a job as posted refers to. None where the request has nothing usable at that place."""

    kind: str = "distill"
    dataset: str | None = None
    model: str | None = None
    teachers: list[PartialTeacher] = field(default_factory=list)
    has_student: bool = False
    """Whether there is a student at all."""
    init_model: str | None = None
    """The model that it starts from."""
    pretrained: bool = False
    """Whether it starts from published weights."""
    architecture: str | None = None
    has_architecture: bool = False
    """Whether one is given, readable or not."""
    derive: bool = False
    derivation_fields: tuple[str, ...] = ()
    """Fields of a derivation that are set."""
    groups: int | None = None
    student_channels: str | None = None
    num_student_taps: int = 0
    """How many taps it names."""
    num_classes: int | None = None
    from_job: str | None = None
    """The job that this one goes on from."""
    from_checkpoint: str = "best"
    """And which of its checkpoints."""
    methods: list[str] | None = None
    """Names of the methods, the default included; None where the request's are unreadable."""
    hint_only: bool = False
    """Whether fitnet is asked for without soft targets: in one stage, or with none of their
    weight."""
    scheme: str | None = "offline"
    scheme_architectures: tuple[str, ...] = ()
    """Architectures that the scheme names beside the student's: assistants, or peers."""
    label_weight: float | None = None
    num_class_weights: int | None = None
    """How many are given."""
    teacher_cache_logits: int | None = None
    standardized: bool = False
    """Whether some method brings all logits to one scale."""
    augmentations: tuple[str, ...] = ()
    batch_size: int | None = None
    accept_criteria: tuple[str, ...] = ()
    """Criteria that are set."""

    @classmethod
    def from_body(cls, body: object) -> Self:
        """Find them in a body that may be wrong in any other way."""
        fields = dict(apply_preset(_as_dict(body)))
        student, training = _as_dict(fields.get("student")), _as_dict(fields.get("training"))
        teachers = [_teacher(_as_dict(teacher)) for teacher in _as_list(fields.get("teachers"))]
        scheme = (
            _as_str(_as_dict(fields.get("scheme")).get("type")) if "scheme" in fields else "offline"
        )
        start = _as_dict(fields.get("from"))
        init, weight = _as_str(student.get("init")), fields.get("label_weight")
        derivation = ("convolution", "groups", "width")
        class_weights = training.get("class_weights")
        return cls(
            kind=_as_str(fields.get("kind")) or "distill",
            dataset=_as_str(fields.get("dataset")),
            model=_as_str(fields.get("model")),
            teachers=teachers,
            has_student=fields.get("student") is not None,
            init_model=None if init in ("random", "pretrained") else init,
            pretrained=init == "pretrained",
            architecture=_as_str(student.get("architecture")),
            has_architecture=student.get("architecture") is not None,
            derive=student.get("derive") is not None,
            derivation_fields=tuple(key for key in derivation if student.get(key) is not None),
            groups=_as_int(student.get("groups")),
            student_channels=_as_str(student.get("channels")),
            num_student_taps=len(_as_list(student.get("taps"))),
            num_classes=_as_int(student.get("num_classes")),
            from_job=_as_str(start.get("job")),
            from_checkpoint=_as_str(start.get("checkpoint")) or "best",
            methods=_methods(fields.get("method"), bool(teachers), scheme),
            hint_only=any(map(_hint_only, map(_as_dict, _as_items(fields.get("method"))))),
            scheme=scheme,
            scheme_architectures=_scheme_architectures(_as_dict(fields.get("scheme"))),
            label_weight=weight if isinstance(weight, int | float) else None,
            num_class_weights=len(_as_list(class_weights)) or None,
            teacher_cache_logits=_as_int(training.get("teacher_cache_logits")),
            standardized=_any_flag(fields.get("method"), "logit_standardization"),
            augmentations=_types(training.get("augmentation")),
            batch_size=_as_int(training.get("batch_size")),
            accept_criteria=tuple(
                k for k, v in _as_dict(fields.get("accept")).items() if v is not None
            ),
        )


def default_method(*, has_teacher: bool, scheme: str | None) -> str:
    """The method of a job that names none: kd where anybody teaches."""
    return "kd" if has_teacher or scheme in ("born_again", "label_refinery") else "supervised"


def _teacher(value: dict[str, Any]) -> PartialTeacher:
    listed = _as_list(value.get("class_map"))
    is_valid = listed and all(type(index) is int for index in listed)
    return PartialTeacher(
        model=_as_str(value.get("model")),
        class_map=tuple(listed) if is_valid else None,
        channels=_as_str(value.get("channels")),
        num_taps=len(_as_list(value.get("taps"))),
    )


def _methods(value: object, has_teacher: bool, scheme: str | None) -> list[str] | None:
    if value is None:
        return [default_method(has_teacher=has_teacher, scheme=scheme)]
    names = [_as_str(_as_dict(entry).get("type", entry)) for entry in _as_items(value)]
    return None if None in names else [name for name in names if name]


def _hint_only(method: dict[str, Any]) -> bool:
    return method.get("two_stage") is False or method.get("kd_weight") == 0


def _any_flag(value: object, flag: str) -> bool:
    return any(_as_dict(method).get(flag) for method in _as_items(value))


def _types(value: object) -> tuple[str, ...]:
    names = [_as_str(_as_dict(entry).get("type")) for entry in _as_items(value)]
    return tuple(name for name in names if name)


def _scheme_architectures(scheme: dict[str, Any]) -> tuple[str, ...]:
    listed = _as_list(scheme.get("assistants")) + _as_list(scheme.get("peers"))
    return tuple(_as_str(name) or "" for name in listed)


def _as_items(value: object) -> list[Any]:
    return _as_list(value) if isinstance(value, list | tuple) else [value]


def _as_dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _as_list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _as_str(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _as_int(value: object) -> int | None:
    return value if type(value) is int else None
