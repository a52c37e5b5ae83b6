"""Report: the student of a job compared with its teacher and with its baseline."""

from typing import Any, Literal

from pydantic import Field

from kdcore.schema.base import FrozenModel
from kdcore.schema.catalog import Normalization
from kdcore.schema.exports import ExportFormat


class Latency(FrozenModel):
    """Time of one forward pass of one image, in milliseconds."""

    p50: float
    p95: float
    spread: float | None = None
    """Median over the fastest of several windows of time; 1 if all are equal. The fastest window
    gives the percentiles. Null in reports of older versions."""
    unsteady: bool = False
    """Whether other load disturbed two measurements: the spread was above 1.15, or p95 above three
    times p50."""


class Evaluation(FrozenModel):
    """One network on the test split. Shares are percentages, 0 to 100."""

    top1: float
    """Share of images whose predicted class is the true class, in percent."""
    top5: float | None
    """Share of images whose true class is among the five best; null below six classes."""
    agreement: float | None
    """Share of images where this network and the teacher predict the same class, in percent."""
    kl_to_teacher: float | None
    """KL(teacher ‖ this network) at temperature 1, mean over images, in nats."""
    ece: float
    """Expected calibration error over 15 equal bins, in percent (Guo et al. 2017)."""
    per_class_top1: dict[str, float]
    num_params: int | None
    """Null for a teacher in ONNX, which does not say which tensors are parameters."""
    macs: int | None
    """Multiply-accumulates of one forward pass of one image; null for a teacher in ONNX."""
    size_bytes: int
    """Size of the weights as a safetensors file, or of the file of the teacher's network."""
    latency_ms: Latency
    """Batch 1 on the worker's device; on a CPU with one thread."""
    images_per_s: float
    """Batch 32 on the worker's device."""
    cpu_latency_ms: Latency | None = None
    """Batch 1 in onnxruntime on a CPU with one thread; null where no ONNX was made."""
    cpu_images_per_s: float | None = None
    """Batch 32 in onnxruntime on a CPU; null where no ONNX was made."""


class ExportEvaluation(FrozenModel):
    """One exported file, loaded and run on the test split. Shares are percentages."""

    file: str
    top1: float
    agreement: float
    """Share of images where the file and the network in PyTorch predict the same class."""
    max_rel_difference: float | None
    """Largest difference of a logit from PyTorch's, as a part of the largest logit; null for
    eight bits, which differ by design."""
    num_images: int
    """Number of test images for top-1 and agreement: all, or an even selection of a large split."""
    size_bytes: int
    latency_ms: Latency
    """Batch 1. ONNX: onnxruntime on a CPU with one thread; ExportedProgram: PyTorch on a CPU with
    one thread; safetensors: as the student in PyTorch on the worker's device."""
    images_per_s: float
    """Batch 32, on the same runtime and device."""
    warning: str | None = None
    """What a user should know before using this file."""


class Disagreement(FrozenModel):
    """A test image for which student and teacher predict different classes."""

    index: int
    """Row of the test split."""
    target: str
    teacher: str
    student: str
    teacher_confidence: float
    """Probability of the teacher's predicted class, 0 to 1."""
    student_confidence: float


class AcceptanceCheck(FrozenModel):
    """One acceptance criterion and what was measured."""

    name: str
    limit: float
    value: float
    passed: bool


class Finding(FrozenModel):
    """What a user should know about a student before using it."""

    code: Literal["wrong_normalization", "diverged", "no_better_than_chance", "worse_than_baseline"]
    message: str
    """What is wrong, with the numbers."""
    cause: str
    """The likely cause."""
    hint: str
    """What to try."""

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        return f"{self.message}. Likely cause: {self.cause}. To try: {self.hint}"


class Verdict(FrozenModel):
    """Whether the student meets the criteria of ``accept``, and what is wrong with it."""

    accepted: bool | None
    """Null for a job without criteria. A student whose training diverged meets none."""
    checks: tuple[AcceptanceCheck, ...]
    diverged: bool = False
    """Whether the validation loss exploded, or the student is no better than the majority class."""
    worse_than_baseline: bool = False
    """Whether distillation made the student worse than it is without, beyond chance."""
    findings: tuple[Finding, ...] = ()
    """The reasons, with numbers, likely causes and hints; a fault of a teacher comes first."""


class MeanStd(FrozenModel):
    """Mean and sample deviation over the seeds."""

    mean: float
    std: float | None
    """Null for a single seed."""


class SeedStatistics(FrozenModel):
    """Test top-1 of student and baseline over the seeds."""

    num_seeds: int
    student_top1: MeanStd
    baseline_top1: MeanStd | None
    top1_gain: MeanStd | None
    """Student minus baseline, paired by seed, in points: the gain by distillation."""
    statement: str | None = None
    """The same as a sentence; null without a baseline."""


class EpochSummary(FrozenModel):
    """Validation top-1 of the last and of the best epoch; the best epoch (the earliest on ties) is
    delivered."""

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
    """Normalization of the student's images: the data set's, or that of its initial weights."""
    exports: dict[ExportFormat, ExportEvaluation] = Field(default_factory=dict)
    """Every exported format of the student."""
    refused_exports: dict[ExportFormat, str] = Field(default_factory=dict)
    """Requested formats that were not exported, with the reason."""
    ensemble_exports: dict[ExportFormat, ExportEvaluation] = Field(default_factory=dict)
    """Exported formats of the ensemble, where the scheme exports one."""
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Test images by true class (row) and predicted class (column), in the data set's order; null
    above 100 classes."""
    likely_class_order: tuple[int, ...] | None = None
    """The class of an evaluated model without class names for each class of the data set, where
    another order than the data set's fits its predictions clearly better; else null."""
    warnings: tuple[str, ...] = ()
    """What a user should know about the inputs, such as classes with other names."""
    disagreements: tuple[Disagreement, ...] = ()
    """Up to 50 images with different predictions, those with the highest confidence first."""
    device: str
    versions: dict[str, str] = Field(default_factory=dict)
    details: dict[str, Any] = Field(default_factory=dict)
