"""Build the report: evaluate networks on the test split, check acceptance, compare seeds."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.evaluation import metrics
from kdcore.evaluation.latency import ROUNDS, Speed, measure_speed
from kdcore.models import flops
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.predict_logits import predict
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.models.teachers import TeacherEnsemble
from kdcore.schema.job import AcceptanceCriteria
from kdcore.schema.report import (
    AcceptanceCheck,
    Disagreement,
    Evaluation,
    Finding,
    Latency,
    MeanStd,
    SeedStatistics,
    Verdict,
)
from kdcore.weights.safetensors_io import encode_safetensors

_MAX_CONFUSION_CLASSES = 100
_MAX_DISAGREEMENTS = 50


@dataclass(frozen=True)
class NetworkCost:
    """Size, operations and speed of a network."""

    num_params: int | None
    macs: int | None
    size_bytes: int
    speed: Speed


@dataclass(frozen=True)
class Evaluator:
    """Evaluates networks on the test split, on one device."""

    __test__ = False  # pytest must not collect it

    images: Tensor  # (N, C, H, W) uint8
    target: Tensor  # (N,)
    classes: tuple[str, ...]
    device: torch.device
    check_cancelled: Callable[[], None]
    latency_rounds: int = ROUNDS
    """Rounds of each measurement of speed; the fastest round counts."""

    def logits(self, network: NormalizedModel) -> Tensor:
        """Return logits (N, C) in float32, the precision of exports, of the test images.

        Those of a diverged network may not be finite. They are replaced by finite ones, because
        metrics are numbers.
        """
        logits = predict(
            network, self.images, device=self.device, check_cancelled=self.check_cancelled
        )
        return logits if bool(logits.isfinite().all()) else torch.nan_to_num(logits)

    def input_shape(self, network: NormalizedModel) -> tuple[int, int, int]:
        """Return (C, H, W) of one image after resize and channel rule."""
        prepared = network.prepare(self.images[:1].to(network.mean.device))
        channels, height, width = prepared.shape[1:]
        return channels, height, width

    def measure_cost(self, network: NormalizedModel) -> NetworkCost:
        """Count parameters, MACs and bytes, and measure the speed, at the network's input size."""
        self.check_cancelled()
        shape = self.input_shape(network)
        inner: nn.Module = network.network
        if isinstance(inner, ProgramNetwork):
            return NetworkCost(
                num_params=inner.num_params,
                macs=inner.count_macs(shape[1]),
                size_bytes=inner.size_bytes,
                speed=measure_speed(inner, shape, self.device, self.latency_rounds),
            )
        return NetworkCost(
            num_params=flops.num_params(inner),
            macs=flops.macs(inner, shape[0], shape[1]),
            size_bytes=len(encode_safetensors(inner.state_dict())),
            speed=measure_speed(inner, shape, self.device, self.latency_rounds),
        )

    def evaluate(
        self, logits: Tensor, teacher: Tensor | None, network_cost: NetworkCost
    ) -> Evaluation:
        """Return one network's part of the report, from its test logits (N, C)."""
        fidelity = metrics.fidelity(logits, teacher)
        return Evaluation(
            top1=metrics.top_k_accuracy(logits, self.target, 1),
            top5=metrics.top_k_accuracy(logits, self.target, 5) if logits.shape[1] > 5 else None,
            agreement=fidelity.get("agreement"),
            kl_to_teacher=fidelity.get("kl_to_teacher"),
            ece=metrics.ece(logits, self.target),
            per_class_top1=metrics.per_class_top1(logits, self.target, self.classes),
            num_params=network_cost.num_params,
            macs=network_cost.macs,
            size_bytes=network_cost.size_bytes,
            latency_ms=network_cost.speed.latency_ms,
            images_per_s=network_cost.speed.images_per_s,
        )


def evaluate_teachers(
    evaluator: Evaluator, teachers: TeacherEnsemble
) -> tuple[Tensor | None, Evaluation | None]:
    """Evaluate the teachers as one network: mean of probabilities, sum of costs.

    Returns logits (N, C) and evaluation, or None for both without teachers.
    """
    if not teachers.networks:
        return None, None
    logits = teachers.mean([evaluator.logits(network) for network in teachers.networks])
    total_cost = sum_costs([evaluator.measure_cost(network) for network in teachers.networks])
    return logits, evaluator.evaluate(logits, logits, total_cost)


def sum_costs(costs: Sequence[NetworkCost]) -> NetworkCost:
    """Add the costs of networks that run one after another; percentiles become upper bounds."""
    return NetworkCost(
        num_params=_sum_known([network_cost.num_params for network_cost in costs]),
        macs=_sum_known([network_cost.macs for network_cost in costs]),
        size_bytes=sum(network_cost.size_bytes for network_cost in costs),
        speed=Speed(
            _sum_latencies([network_cost.speed.latency_ms for network_cost in costs]),
            1 / sum(1 / network_cost.speed.images_per_s for network_cost in costs),
        ),
    )


def _sum_known(counts: Sequence[int | None]) -> int | None:
    """Return the sum; None if one of the counts is unknown."""
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _sum_latencies(latencies: Sequence[Latency]) -> Latency:
    return Latency(
        p50=sum(latency.p50 for latency in latencies),
        p95=sum(latency.p95 for latency in latencies),
        spread=max((latency.spread for latency in latencies if latency.spread), default=None),
        unsteady=any(latency.unsteady for latency in latencies),
    )


def confusion(evaluator: Evaluator, logits: Tensor) -> tuple[tuple[int, ...], ...] | None:
    """Return counts (C, C) by true and predicted class; None above 100 classes."""
    return (
        metrics.confusion(logits, evaluator.target)
        if logits.shape[1] <= _MAX_CONFUSION_CLASSES
        else None
    )


def disagreements(
    evaluator: Evaluator, logits: Tensor, teacher: Tensor | None
) -> tuple[Disagreement, ...]:
    """Return up to 50 test images with different predictions, the most confident first.

    ``logits`` and ``teacher`` are (N, C); without a teacher there are none.
    """
    if teacher is None:
        return ()
    student_top = functional.softmax(logits.double(), dim=1).max(dim=1)
    teacher_top = functional.softmax(teacher.double(), dim=1).max(dim=1)
    return tuple(
        Disagreement(
            index=row,
            target=evaluator.classes[int(evaluator.target[row])],
            teacher=evaluator.classes[int(teacher_top.indices[row])],
            student=evaluator.classes[int(student_top.indices[row])],
            teacher_confidence=float(teacher_top.values[row]),
            student_confidence=float(student_top.values[row]),
        )
        for row in metrics.disagreements(logits, teacher, _MAX_DISAGREEMENTS)
    )


def verdict(
    accept: AcceptanceCriteria | None,
    student: Evaluation,
    teacher: Evaluation | None,
    findings: Sequence[Finding] = (),
) -> Verdict:
    """Check every criterion of the job; a criterion without a value is not met.

    A student whose training diverged is not accepted. Without criteria nothing is checked.
    """
    codes = {finding.code for finding in findings}
    checked = _check_criteria(accept or AcceptanceCriteria(), student, teacher)
    diverged = bool(codes & {"diverged", "no_better_than_chance"})
    if diverged and checked.accepted is not None:
        check = AcceptanceCheck(name="diverged", limit=0, value=1, passed=False)
        checked = Verdict(accepted=False, checks=(*checked.checks, check))
    return checked.model_copy(
        update={
            "diverged": diverged,
            "worse_than_baseline": "worse_than_baseline" in codes,
            "findings": tuple(findings),
        }
    )


def _check_criteria(
    accept: AcceptanceCriteria, student: Evaluation, teacher: Evaluation | None
) -> Verdict:
    drop = teacher.top1 - student.top1 if teacher else None
    measured = {
        "max_top1_drop": drop,
        "min_top1": student.top1,
        "min_agreement": student.agreement,
        "max_size_bytes": student.size_bytes,
        "max_num_params": student.num_params,
        "max_latency_ms": student.latency_ms.p50,
    }
    criteria = accept.model_dump(exclude_none=True)
    checks = tuple(
        AcceptanceCheck(name=name, limit=limit, value=value, passed=_is_met(name, limit, value))
        for name, limit in criteria.items()
        if (value := measured[name]) is not None
    )
    # Agreement, for instance, has no value without a teacher.
    accepted = len(checks) == len(criteria) and all(check.passed for check in checks)
    return Verdict(accepted=accepted if criteria else None, checks=checks)


def _is_met(name: str, limit: float, value: float) -> bool:
    return value >= limit if name.startswith("min_") else value <= limit


def summarize_seeds(student: Sequence[float], baseline: Sequence[float]) -> SeedStatistics:
    """Summarize the test top-1 of all seeds; ``baseline`` is empty or paired with ``student``."""
    gains = [s - b for s, b in zip(student, baseline, strict=True)] if baseline else []
    return SeedStatistics(
        num_seeds=len(student),
        student_top1=mean_and_std(student),
        baseline_top1=mean_and_std(baseline) if baseline else None,
        top1_gain=mean_and_std(gains) if gains else None,
        statement=statement(gains) if gains else None,
    )


def statement(gains: Sequence[float]) -> str:
    """Return a sentence about the gain of top-1; ``gains`` are points, one for each seed."""
    mean, deviation = mean_and_std(gains).mean, mean_and_std(gains).std
    if deviation is None:
        return f"one seed: {mean:+.1f} points; more seeds are needed to separate gain and chance"
    points = f"{deviation:.1f} points ({len(gains)} seeds)"
    if mean > 0:
        unsure = ", less than the deviation of seeds" if mean < deviation else ""
        return f"distillation helped by {mean:.1f} ± {points}{unsure}"
    return f"distillation did not help: {mean:+.1f} ± {points}"


def mean_and_std(values: Sequence[float]) -> MeanStd:
    """Return mean and sample standard deviation; None for the deviation of one value."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return MeanStd(mean=statistics.fmean(values), std=deviation)
