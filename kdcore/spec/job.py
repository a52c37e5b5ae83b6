"""A job as a client posts it."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.spec.base import Label, Name, Spec, Text
from kdcore.spec.catalogue import ArchitectureName
from kdcore.spec.methods import AnyMethod, MethodField
from kdcore.spec.schemes import Offline
from kdcore.spec.training import Training

ModelId = Annotated[str, Field(max_length=64, description="Id of a model, `mdl_…`")]
DatasetId = Annotated[str, Field(max_length=64, description="Id of a data set, `ds_…`")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Teacher(Spec):
    """One teacher of the job and its share among several."""

    model: ModelId
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0


class Student(Spec):
    """The network to train."""

    architecture: ArchitectureName
    init: Annotated[str, Field(max_length=64)] = "random"
    """`random`, or the id of a model whose weights the student starts from."""
    num_classes: Annotated[int, Field(ge=2, le=100_000)] | None = None
    """Null takes the data set's number of classes; anything else must equal it."""


class EvaluationPlan(Spec):
    """What is measured beside the student itself."""

    baseline: bool | None = None
    """Also train the same student without a teacher, same budget; null: when there is a teacher."""
    seeds: Annotated[int, Field(ge=1, le=10)] = 1


class Accept(Spec):
    """What the student must meet. The verdict says which criteria held; the job succeeds anyway."""

    max_top1_drop: Annotated[float, Field(ge=0, le=100)] | None = None
    """Teacher's test top-1 minus the student's, in points."""
    min_top1: Annotated[float, Field(ge=0, le=100)] | None = None
    min_agreement: Annotated[float, Field(ge=0, le=100)] | None = None
    max_size_bytes: Annotated[int, Field(gt=0, lt=2**63)] | None = None
    max_num_params: Annotated[int, Field(gt=0, lt=2**63)] | None = None
    max_latency_ms: Annotated[float, Field(gt=0)] | None = None
    """p50 at batch 1 on the worker's device."""


class Limits(Spec):
    """When to stop a job that takes too long."""

    wall_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds of all runs together, from start to end."""
    device_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds of a device in use, all runs together."""


class JobSpec(Spec):
    """A job: which teachers, which student, which data, and how."""

    kind: Literal["distill"] = "distill"
    name: Name | None = None
    teachers: Annotated[tuple[Teacher, ...], Field(max_length=8)] = ()
    student: Student
    dataset: DatasetId
    method: MethodField | None = None
    """Null means `kd` where there is a teacher, else `supervised`. A name is short for its
    defaults; the terms of a list are summed."""
    label_weight: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Weight of cross-entropy with the true labels; null means the method's default."""
    scheme: Offline = Offline()
    training: Training = Training()
    evaluation: EvaluationPlan = EvaluationPlan()
    exports: Annotated[tuple[Literal["safetensors"], ...], Field(min_length=1, max_length=1)] = (
        "safetensors",
    )
    accept: Accept | None = None
    limits: Limits = Limits()
    seed: Seed = 0
    priority: Annotated[int, Field(ge=-100, le=100)] = 0
    labels: Annotated[dict[Label, Text], Field(max_length=64, default_factory=dict)]


class ResolvedJob(JobSpec):
    """The same job with every default made explicit: what the engine is given."""

    name: Name
    method: tuple[AnyMethod, ...]
    label_weight: float
