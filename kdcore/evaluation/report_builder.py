"""The report: every network of the job on the test split, and what follows from it."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdcore.evaluation import metrics
from kdcore.evaluation.latency import Speed, measure
from kdcore.models import flops as cost
from kdcore.models.normalized_model import Normalised
from kdcore.models.predict_logits import predict
from kdcore.models.teachers import Teachers
from kdcore.schema.job import Accept
from kdcore.schema.report import Check, Evaluation, Latency, Seeds, Spread, Verdict
from kdcore.weights.safetensors_io import encoded


@dataclass(frozen=True)
class Cost:
    """What a network costs to keep and to run."""

    num_params: int
    macs: int
    size_bytes: int
    speed: Speed


@dataclass(frozen=True)
class TestBench:
    """The test split and the device that networks are measured on."""

    __test__ = False  # not a test of pytest's

    images: Tensor  # (N, C, H, W) uint8
    target: Tensor  # (N,)
    classes: tuple[str, ...]
    device: torch.device
    boundary: Callable[[], None]

    def logits(self, network: Normalised) -> Tensor:
        """(N, C), float32 whatever the training's precision: that is what is exported."""
        return predict(network, self.images, device=self.device, boundary=self.boundary)

    def shape(self, network: Normalised) -> tuple[int, int, int]:
        """(C, H, W) of one image as the network itself gets it, after resize and channel rule."""
        seen = network.prepare(self.images[:1].to(network.mean.device))
        channels, height, width = seen.shape[1:]
        return channels, height, width

    def cost(self, network: Normalised) -> Cost:
        """Parameters, MACs, bytes and measured speed at the side that the network expects."""
        self.boundary()
        shape = self.shape(network)
        inner: nn.Module = network.network
        return Cost(
            num_params=cost.num_params(inner),
            macs=cost.macs(inner, shape[0], shape[1]),
            size_bytes=len(encoded(inner.state_dict())),
            speed=measure(inner, shape, self.device),
        )

    def evaluation(self, logits: Tensor, teacher: Tensor | None, spent: Cost) -> Evaluation:
        """One network's part of the report, from its test logits (N, C)."""
        fidelity = metrics.fidelity(logits, teacher)
        return Evaluation(
            top1=metrics.top(logits, self.target, 1),
            top5=metrics.top(logits, self.target, 5) if logits.shape[1] > 5 else None,
            agreement=fidelity.get("agreement"),
            kl_to_teacher=fidelity.get("kl_to_teacher"),
            ece=metrics.ece(logits, self.target),
            per_class_top1=metrics.per_class_top1(logits, self.target, self.classes),
            num_params=spent.num_params,
            macs=spent.macs,
            size_bytes=spent.size_bytes,
            latency_ms=spent.speed.latency_ms,
            images_per_s=spent.speed.images_per_s,
        )


def teacher_on(bench: TestBench, teachers: Teachers) -> tuple[Tensor | None, Evaluation | None]:
    """The teachers as one: mean of their probabilities, sum of their costs; None without any."""
    if not teachers.networks:
        return None, None
    logits = teachers.mean([bench.logits(network) for network in teachers.networks])
    spent = together([bench.cost(network) for network in teachers.networks])
    return logits, bench.evaluation(logits, logits, spent)


def together(costs: Sequence[Cost]) -> Cost:
    """Of networks that run one after the other; percentiles are added, which errs upwards."""
    return Cost(
        num_params=sum(each.num_params for each in costs),
        macs=sum(each.macs for each in costs),
        size_bytes=sum(each.size_bytes for each in costs),
        speed=Speed(
            Latency(
                p50=sum(each.speed.latency_ms.p50 for each in costs),
                p95=sum(each.speed.latency_ms.p95 for each in costs),
            ),
            1 / sum(1 / each.speed.images_per_s for each in costs),
        ),
    )


def verdict(accept: Accept | None, student: Evaluation, teacher: Evaluation | None) -> Verdict:
    """Every criterion of the job against what was measured; unmeasured ones are not met."""
    if accept is None:
        return Verdict(accepted=None, checks=())
    drop = teacher.top1 - student.top1 if teacher else None
    measured = {
        "max_top1_drop": drop,
        "min_top1": student.top1,
        "min_agreement": student.agreement,
        "max_size_bytes": student.size_bytes,
        "max_num_params": student.num_params,
        "max_latency_ms": student.latency_ms.p50,
    }
    asked = accept.model_dump(exclude_none=True)
    checks = tuple(
        Check(name=name, limit=limit, value=value, passed=_holds(name, limit, value))
        for name, limit in asked.items()
        if (value := measured[name]) is not None
    )
    # Such as agreement without a teacher.
    accepted = len(checks) == len(asked) and all(check.passed for check in checks)
    return Verdict(accepted=accepted if asked else None, checks=checks)


def _holds(name: str, limit: float, value: float) -> bool:
    return value >= limit if name.startswith("min_") else value <= limit


def seeds(student: Sequence[float], baseline: Sequence[float]) -> Seeds:
    """Of every seed's test top-1; ``baseline`` is empty or paired with ``student``."""
    helped = [s - b for s, b in zip(student, baseline, strict=True)] if baseline else []
    return Seeds(
        num_seeds=len(student),
        student_top1=spread(student),
        baseline_top1=spread(baseline) if baseline else None,
        helped_by=spread(helped) if helped else None,
        statement=statement(helped) if helped else None,
    )


def statement(helped: Sequence[float]) -> str:
    """By how many points of top-1 distillation helped, as a sentence; one number per seed."""
    mean, deviation = spread(helped).mean, spread(helped).std
    if deviation is None:
        return f"one seed: {mean:+.1f} points; how much of it is chance, one seed cannot tell"
    points = f"{deviation:.1f} points ({len(helped)} seeds)"
    if mean > 0:
        unsure = ", less than the seeds differ" if mean < deviation else ""
        return f"distillation helped by {mean:.1f} ± {points}{unsure}"
    return f"distillation did not help: {mean:+.1f} ± {points}"


def spread(values: Sequence[float]) -> Spread:
    """Mean and sample deviation; a single value has none."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(mean=statistics.fmean(values), std=deviation)
