"""A job as a client posts it, and the presets of its fields.

docs/reference/speed.md has measurements of each preset.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from kdcore.schema.base import NUM_SEEDS, FrozenModel, Label, Name, Seed, Text
from kdcore.schema.catalog import ArchitectureName, ModelArchitecture
from kdcore.schema.derived_name import DerivedNetwork
from kdcore.schema.exports import ExportFormat
from kdcore.schema.job_kinds import JOB_KINDS, PublicKind
from kdcore.schema.methods import (
    AnyMethod,
    LabelWeight,
    MethodField,
    as_methods,
    default_label_weight,
)
from kdcore.schema.schemes import SchemeField
from kdcore.schema.schemes.offline import Offline
from kdcore.schema.training_config import TrainingConfig

Preset = Literal["fast", "balanced", "paper"]

_SHORT_TRAINING: dict[str, Any] = {
    "batch_size": 32,
    "optimizer": {"type": "sgd", "lr": 0.1, "nesterov": True},
    "schedule": {"type": "cosine"},
    "augmentation": {"type": "crop_flip", "padding": 0},
}
_TRAINING: dict[str, dict[str, Any]] = {
    "fast": _SHORT_TRAINING | {"epochs": 8},
    "balanced": _SHORT_TRAINING | {"epochs": 30, "augmentation": {"type": "crop_flip"}},
    "paper": {
        "epochs": 240,
        "batch_size": 64,
        "optimizer": {"type": "sgd", "lr": 0.05},
        "schedule": {"type": "step"},
        "augmentation": {"type": "crop_flip"},
    },
}
_LOGIT_MATCHING: dict[str, Any] = {"method": {"type": "logit_matching"}, "label_weight": 0.0}
_DISTILLATION: dict[str, dict[str, Any]] = {
    "fast": _LOGIT_MATCHING,
    "balanced": _LOGIT_MATCHING,
    "paper": {
        "method": {"type": "kd", "temperature": 4.0, "weight": "published"},
        "label_weight": 0.1,
    },
}


def apply_preset(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body of a job, with its preset's values in the fields that it leaves out.

    A field of ``training`` in the body replaces the preset's field as a whole. ``method`` and
    ``label_weight`` come from the preset only where the job sets neither of them, has a teacher
    and has the scheme offline, because other methods have other weights. A body without a valid
    preset is returned unchanged.
    """
    preset, training = body.get("preset"), body.get("training", {})
    if not isinstance(preset, str) or preset not in _TRAINING or not isinstance(training, Mapping):
        return body
    merged = {**body, "training": {**_TRAINING[preset], **training}}
    unspecified = body.get("method") is None and body.get("label_weight") is None
    if unspecified and body.get("teachers") and _offline(body.get("scheme")):
        merged |= _DISTILLATION[preset]
    return merged


def _offline(scheme: object) -> bool:
    return scheme is None or (
        isinstance(scheme, Mapping) and scheme.get("type") == Offline.scheme_name()
    )


ModelId = Annotated[str, Field(max_length=64, description="Id of a model, `mdl_…`")]
DatasetId = Annotated[str, Field(max_length=64, description="Id of a data set, `ds_…`")]
BUILT_IN_INITS = ("random", "pretrained")
"""Values of a student's ``init`` that name no model."""

ChannelRule = Literal["repeat", "luminance"]
"""How images are converted for a network of other channels: `repeat` copies a gray image to the
three channels of an RGB network, `luminance` converts color images to gray by ITU-R BT.601."""


def network_channels(rule: str | None, in_channels: int) -> int:
    """Channels of a network whose input is images of ``in_channels``, converted by ``rule``."""
    return {None: in_channels, "repeat": 3, "luminance": 1}[rule]


def channel_rule(in_channels: int, num_channels: int) -> ChannelRule | None:
    """The rule that converts images of ``in_channels`` for a network of ``num_channels``; None
    where the numbers are equal, or where no rule converts them."""
    rules: dict[tuple[int, int], ChannelRule] = {(1, 3): "repeat", (3, 1): "luminance"}
    return rules.get((in_channels, num_channels))


TapPaths = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=300)], ...],
    Field(min_length=1, max_length=16),
]
JobId = Annotated[str, Field(max_length=64, description="Id of a job, `job_…`")]
Reference = Annotated[
    str,
    Field(max_length=4096, description="Id of a model, a data set or a job; in a recipe, a path"),
]
"""An id of the service; in a recipe, a path or the name of a source or of pretrained weights."""


class Teacher(FrozenModel):
    """One teacher of the job and its share among several teachers."""

    reference_field: ClassVar[str] = "model"
    """The field that names the network, for the pointers of issues."""

    model: ModelId
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    class_map: (
        Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=2, max_length=100_000)]
        | None
    ) = None
    """The teacher's class for each class of the data set, in order. Null matches the classes by
    name, and by order where the teacher has no class names."""
    channels: ChannelRule | None = None
    taps: TapPaths | None = None
    """Module paths of the feature maps to compare, shallow to deep; null takes the last map of each
    stage."""


class Student(FrozenModel):
    """The network to train: an architecture by name, or one derived from the teacher."""

    architecture: ArchitectureName | None = None
    derive: Literal["teacher"] | None = None
    """Instead of an architecture: the first teacher's network with cheaper convolutions."""
    convolution: Literal["grouped", "depthwise_separable"] | None = None
    """Replacement of each standard convolution in a derived student; null is `grouped`."""
    groups: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Groups of each grouped convolution; null is 8. 1 keeps the teacher's own convolutions."""
    width: Annotated[float, Field(gt=0, le=4)] | None = None
    """Factor of every inner channel count of a derived student; null is 1."""
    init: Annotated[str, Field(max_length=64)] = "random"
    """Initial weights: `random`, `pretrained` (torchvision and timm), or the id of a model."""
    num_classes: Annotated[int, Field(ge=2, le=100_000)] | None = None
    """Null takes the data set's number of classes; anything else must equal it."""
    channels: ChannelRule | None = None
    taps: TapPaths | None = None
    """Module paths of the feature maps to compare, shallow to deep; null takes the last map of each
    stage."""


class ContinueFrom(FrozenModel):
    """The earlier job whose student a job starts from."""

    job: JobId
    checkpoint: Annotated[str, Field(min_length=1, max_length=64)] = "best"
    """`best` is the delivered student; `last` the newest checkpoint; else a checkpoint's step."""


class EvaluationPlan(FrozenModel):
    """What is trained and measured besides the student."""

    baseline: bool | None = None
    """Also train the student without a teacher, for as many steps; null: with a teacher only."""
    seeds: Annotated[int, Field(ge=1, le=10)] = 1


class AcceptanceCriteria(FrozenModel):
    """Criteria for the student. The report lists which ones it meets; the job succeeds anyway."""

    max_top1_drop: Annotated[float, Field(ge=0, le=100)] | None = None
    """Teacher's test top-1 minus the student's, in points."""
    min_top1: Annotated[float, Field(ge=0, le=100)] | None = None
    min_agreement: Annotated[float, Field(ge=0, le=100)] | None = None
    max_size_bytes: Annotated[int, Field(gt=0, lt=2**63)] | None = None
    max_num_params: Annotated[int, Field(gt=0, lt=2**63)] | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """p50 at batch 1 on the worker's device."""


class JobLimits(FrozenModel):
    """Limits of the job's time."""

    wall_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds of all runs together."""
    device_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds on a device, all runs together."""


class JobSpec(FrozenModel):
    """A job: which teachers, which student, which data, and how."""

    kind: PublicKind = "distill"
    """`evaluate` measures a model on a data set without training."""
    name: Name | None = None
    teachers: Annotated[tuple[Teacher, ...], Field(max_length=8)] = ()
    student: Student | None = None
    """Required, except where `model` is evaluated."""
    model: ModelId | None = None
    """The model to measure, for `kind: evaluate` only."""
    from_: Annotated[ContinueFrom | None, Field(alias="from")] = None
    """An earlier job whose student is the initial student of this job."""
    dataset: DatasetId
    method: MethodField | None = None
    """Null means `kd` with a teacher, else `supervised`. A name stands for the method with its
    defaults; the terms of a list are summed."""
    label_weight: LabelWeight | None = None
    """Weight of cross-entropy with the true labels; null means the method's default, and `auto`
    where the weight of a method is `auto`: then it is found before training, too."""
    scheme: SchemeField = Offline()
    preset: Preset | None = None
    """Settings for the fields that the job leaves out: `fast` trains on the fewest images, `paper`
    has the settings of research libraries, `balanced` lies between them. It fills `training` and,
    with a teacher and the scheme offline, also `method` and `label_weight` if the job sets neither.
    """
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationPlan = EvaluationPlan()
    exports: Annotated[tuple[ExportFormat, ...], Field(min_length=1, max_length=8)] = (
        "safetensors",
    )
    """Export formats of the student; safetensors is always exported."""
    accept: AcceptanceCriteria | None = None
    limits: JobLimits = JobLimits()
    seed: Seed = 0
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    labels: Annotated[dict[Label, Text], Field(max_length=64, default_factory=dict)]

    @model_validator(mode="before")
    @classmethod
    def _apply_preset(cls, body: Any) -> Any:
        return apply_preset(body) if isinstance(body, Mapping) else body

    @property
    def needs(self) -> Literal["student", "model"] | None:
        """The field that names what this kind of job works on: a student to train, or a model."""
        return JOB_KINDS[self.kind].needs

    @property
    def trains(self) -> bool:
        """Whether the job trains a student; otherwise it measures a model."""
        return JOB_KINDS[self.kind].trains

    @property
    def methods(self) -> tuple[AnyMethod, ...]:
        """The methods as parameters, or the default method where the job names none."""
        if self.method is not None:
            return as_methods(self.method)
        return as_methods("kd" if self.teachers or self.scheme.trains_teachers else "supervised")

    def references(self) -> dict[str, Any]:
        """The fields that name data, models and jobs, as :class:`ResolvedJob` has them."""
        return {
            "dataset": self.dataset,
            "teachers": [dict(teacher) for teacher in self.teachers],
            "model": self.model,
            "from_": None if self.from_ is None else dict(self.from_),
        }

    def effective_label_weight(self) -> LabelWeight:
        """Weight of cross-entropy with the true labels: the job's, or the methods' default."""
        if self.label_weight is not None:
            return self.label_weight
        if any(method.resolved_weight == "auto" for method in self.methods):
            return "auto"
        return default_label_weight(self.methods)


class ResolvedStudent(Student):
    """The network to train: an architecture, and what is derived from it."""

    architecture: ModelArchitecture
    """Only an evaluated network may be one from a file."""
    init: Reference = "random"
    class_map: tuple[int, ...] | None = None
    """The class of the initial weights, or of the evaluated model, for each class of the data set;
    null where both have the same classes in the same order, or names are unknown."""

    @property
    def network(self) -> str:
        """The name of the network for :func:`kdcore.models.build`."""
        if self.derive is None:
            return self.architecture
        kind, groups = self.convolution or "grouped", self.groups or 1
        return DerivedNetwork(self.architecture, kind, groups, self.width or 1.0).name


class ResolvedTeacher(Teacher):
    """One teacher of a job or of a recipe."""

    model: Reference


class ResolvedContinueFrom(ContinueFrom):
    """The earlier job of a job, or the folder of an earlier run of a recipe."""

    job: Reference


class ResolvedJob(JobSpec):
    """A job with every default explicit, which is the input of the engine."""

    name: Name
    teachers: Annotated[tuple[ResolvedTeacher, ...], Field(max_length=8)] = ()
    student: ResolvedStudent
    model: Reference | None = None
    from_: Annotated[ResolvedContinueFrom | None, Field(alias="from")] = None
    dataset: Reference
    method: tuple[AnyMethod, ...]
    label_weight: LabelWeight

    @property
    def seeds(self) -> list[int]:
        """Seeds of its students: the k-th is ``seed + k``, modulo the number of seeds."""
        return [(self.seed + seed_index) % NUM_SEEDS for seed_index in range(self.evaluation.seeds)]

    @property
    def view_seeds(self) -> list[int]:
        """Seeds of the views of its students, without repetition."""
        shared = self.training.view_seed
        return self.seeds if shared is None else [shared]
