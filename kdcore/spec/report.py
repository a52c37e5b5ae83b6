"""The report: what a job's student is worth beside its teacher and the undistilled student."""

from typing import Any

from pydantic import Field

from kdcore.spec.base import Spec
from kdcore.spec.catalogue import Normalisation


class Latency(Spec):
    """Time of one forward pass of one image, in milliseconds."""

    p50: float
    p95: float


class Evaluation(Spec):
    """One network on the test split. Shares are percentages, 0 to 100."""

    top1: float
    """Share of images whose best class is the right one, in percent."""
    top5: float | None
    """Share of images whose right class is among the best five; null below six classes."""
    agreement: float | None
    """Share of images where this network and the teacher name the same class, in percent."""
    kl_to_teacher: float | None
    """KL(teacher ‖ this network) at temperature 1, mean over images, in nats."""
    ece: float
    """Expected calibration error over 15 equal bins, in percent (Guo et al. 2017)."""
    per_class_top1: dict[str, float]
    num_params: int
    macs: int
    """Multiply-accumulates of one forward pass of one image."""
    size_bytes: int
    """Size of the weights as a safetensors file."""
    latency_ms: Latency
    """Batch 1 on the worker's device; on a CPU with one thread."""
    images_per_s: float
    """Batch 32 on the worker's device."""


class Check(Spec):
    """One acceptance criterion and what was measured."""

    name: str
    limit: float
    value: float
    passed: bool


class Verdict(Spec):
    """Whether the student meets the job's ``accept``; null where nothing was asked."""

    accepted: bool | None
    checks: tuple[Check, ...]


class Spread(Spec):
    """Mean and sample deviation over the seeds."""

    mean: float
    std: float | None
    """Null for a single seed: one number has no deviation."""


class Seeds(Spec):
    """What several seeds say of the student's and the baseline's test top-1."""

    num_seeds: int
    student_top1: Spread
    baseline_top1: Spread | None
    helped_by: Spread | None
    """Student minus baseline, paired by seed: by how much distillation helped, in points."""


class Epochs(Spec):
    """Validation top-1 of the last and of the best epoch; the best (earliest on ties) is kept."""

    best_epoch: int
    best_val_top1: float
    last_val_top1: float


class Report(Spec):
    """The outcome of a job."""

    student: Evaluation
    teacher: Evaluation | None
    baseline: Evaluation | None
    verdict: Verdict
    seeds: Seeds
    epochs: Epochs
    normalisation: Normalisation
    """What the student's images must be normalised by: its own, or its initial weights'."""
    device: str
    versions: dict[str, str] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)
