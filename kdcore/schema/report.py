"""The report: what a job's student is worth beside its teacher and the undistilled student."""

from typing import Any

from pydantic import Field

from kdcore.schema.base import FrozenModel
from kdcore.schema.catalog import Normalization
from kdcore.schema.exports import ExportFormat


class Latency(FrozenModel):
    """Time of one forward pass of one image, in milliseconds."""

    p50: float
    p95: float


class Evaluation(FrozenModel):
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
    cpu_latency_ms: Latency | None = None
    """Batch 1 in onnxruntime on a CPU with one thread; null where no ONNX was made."""
    cpu_images_per_s: float | None = None
    """Batch 32 in onnxruntime on a CPU; null where no ONNX was made."""


class ExportEvaluation(FrozenModel):
    """One published file, opened and run by itself on the test split. Shares are percentages."""

    file: str
    top1: float
    agreement: float
    """Share of images where the file and the network in PyTorch name the same class."""
    max_rel_difference: float | None
    """Largest difference of a logit from PyTorch's, as a part of the largest logit; null for
    eight bits, which differ by design."""
    num_images: int
    """Test images that top-1 and agreement are of: all, or an even selection of a big split."""
    size_bytes: int
    latency_ms: Latency
    """Batch 1. ONNX: onnxruntime on a CPU with one thread; ExportedProgram: PyTorch on a CPU with
    one thread; safetensors: as the student in PyTorch on the worker's device."""
    images_per_s: float
    """Batch 32, on the same."""
    warning: str | None = None
    """What a user should know before taking this file."""


class Disagreement(FrozenModel):
    """A test image whose best class is another for the student than for the teacher."""

    index: int
    """Row of the test split."""
    target: str
    teacher: str
    student: str
    teacher_confidence: float
    """Probability that the teacher gives to the class that it names, 0 to 1."""
    student_confidence: float


class AcceptanceCheck(FrozenModel):
    """One acceptance criterion and what was measured."""

    name: str
    limit: float
    value: float
    passed: bool


class Verdict(FrozenModel):
    """Whether the student meets the job's ``accept``; null where nothing was asked."""

    accepted: bool | None
    checks: tuple[AcceptanceCheck, ...]


class MeanStd(FrozenModel):
    """Mean and sample deviation over the seeds."""

    mean: float
    std: float | None
    """Null for a single seed: one number has no deviation."""


class SeedStatistics(FrozenModel):
    """What several seeds say of the student's and the baseline's test top-1."""

    num_seeds: int
    student_top1: MeanStd
    baseline_top1: MeanStd | None
    top1_gain: MeanStd | None
    """Student minus baseline, paired by seed: by how much distillation helped, in points."""
    statement: str | None = None
    """The same as a sentence; null without a baseline."""


class EpochSummary(FrozenModel):
    """Validation top-1 of the last and of the best epoch; the best (earliest on ties) is kept."""

    best_epoch: int
    best_val_top1: float
    last_val_top1: float


class Report(FrozenModel):
    """The outcome of a job."""

    student: Evaluation
    teacher: Evaluation | None
    baseline: Evaluation | None
    verdict: Verdict
    seeds: SeedStatistics
    epochs: EpochSummary | None
    """Null where nothing was trained."""
    normalization: Normalization
    """What the student's images must be normalized by: its own, or its initial weights'."""
    exports: dict[ExportFormat, ExportEvaluation] = Field(default_factory=dict)
    """Every form in which the student was published."""
    refused_exports: dict[ExportFormat, str] = Field(default_factory=dict)
    """Forms that were asked for and not published, each with the reason."""
    ensemble_exports: dict[ExportFormat, ExportEvaluation] = Field(default_factory=dict)
    """The forms of all generations as one network, where the scheme makes one."""
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Test images by true class (row) and class that the student names (column), in the data
    set's order; null above 100 classes."""
    disagreements: tuple[Disagreement, ...] = ()
    """Up to 50 images that student and teacher see differently, the surest of both first."""
    device: str
    versions: dict[str, str] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)
