"""Metrics of logits, compared with counts by hand; the report, latency and cost."""

import itertools
import math
import time

import numpy as np
import pytest
import torch

from kdcore.evaluation import metrics
from kdcore.evaluation.latency import STEADY_SPREAD, STEADY_TAIL, Speed, measure_callables
from kdcore.evaluation.report_builder import (
    Evaluator,
    NetworkCost,
    confusion,
    disagreements,
    statement,
    summarize_seeds,
)
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization
from kdcore.schema.report import Latency, Report

TARGET = torch.tensor([0, 0, 1, 1, 2])
PREDICTED = torch.tensor([0, 2, 1, 0, 2])
COST = NetworkCost(1, 2, 3, Speed(Latency(p50=1.0, p95=2.0), 3.0))


def never_cancelled() -> None:
    pass


def make_evaluator(classes: tuple[str, ...], images: torch.Tensor | None = None) -> Evaluator:
    images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8) if images is None else images
    return Evaluator(images, TARGET, classes, torch.device("cpu"), never_cancelled, 1)


def logits_for(classes: torch.Tensor, logit: float = 3.0, num_classes: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(classes, num_classes) * logit


def test_confusion_counts_true_classes_in_rows() -> None:
    expected = ((1, 0, 1), (1, 1, 0), (0, 0, 1))
    assert metrics.confusion(logits_for(PREDICTED), TARGET) == expected
    assert confusion(make_evaluator(("a", "b", "c")), logits_for(PREDICTED)) == expected
    many = make_evaluator(tuple(map(str, range(101))))
    assert confusion(many, logits_for(PREDICTED, num_classes=101)) is None


def test_most_confident_disagreements_come_first() -> None:
    teacher = logits_for(torch.tensor([0, 0, 1, 1, 1]), 5.0)
    student = logits_for(PREDICTED)
    student[3] = student[3] * 4
    listed = disagreements(make_evaluator(("a", "b", "c")), student, teacher)
    assert [(d.index, d.target, d.teacher, d.student) for d in listed] == [
        (3, "b", "b", "a"),
        (1, "a", "a", "c"),
        (4, "c", "b", "c"),
    ]
    e = torch.tensor([3.0, 0, 0]).double().softmax(0)[0].item()
    assert listed[1].student_confidence == pytest.approx(e)
    assert listed[1].teacher_confidence > listed[1].student_confidence
    assert disagreements(make_evaluator(("a", "b", "c")), student, None) == ()


def test_at_most_fifty_disagreements_are_listed() -> None:
    count = 80
    evaluator = Evaluator(
        torch.zeros(count, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(count, dtype=torch.long),
        ("a", "b"),
        torch.device("cpu"),
        never_cancelled,
    )
    zeros, ones = torch.zeros(count, dtype=torch.long), torch.ones(count, dtype=torch.long)
    listed = disagreements(
        evaluator, logits_for(ones, num_classes=2), logits_for(zeros, num_classes=2)
    )
    assert [entry.index for entry in listed] == list(range(50))


def test_two_classes_without_a_teacher_are_evaluated() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0], [2.0, 0.0]])
    evaluator = Evaluator(
        torch.zeros(5, 1, 8, 8),
        TARGET.clamp_max(1),
        ("a", "b"),
        torch.device("cpu"),
        never_cancelled,
    )
    evaluation = evaluator.evaluate(logits, None, COST)
    assert (evaluation.top1, evaluation.top5) == (60, None)
    assert (evaluation.agreement, evaluation.kl_to_teacher) == (None, None)
    assert evaluation.per_class_top1 == {"a": 50, "b": pytest.approx(200 / 3)}


@pytest.mark.parametrize(
    ("gains", "sentence"),
    [
        ([1.0, 1.5, 0.8], "distillation helped by 1.1 ± 0.4 points (3 seeds)"),
        (
            [2.0, -1.0],
            "distillation helped by 0.5 ± 2.1 points (2 seeds), less than the deviation of seeds",
        ),
        ([-1.0, -0.4], "distillation did not help: -0.7 ± 0.4 points (2 seeds)"),
        ([1.14], "one seed: +1.1 points; more seeds are needed to separate gain and chance"),
        ([-0.26], "one seed: -0.3 points; more seeds are needed to separate gain and chance"),
    ],
)
def test_statement_says_whether_distillation_helped(gains: list[float], sentence: str) -> None:
    assert statement(gains) == sentence
    seeds = summarize_seeds([90 + points for points in gains], [90.0] * len(gains))
    assert seeds.statement == sentence
    assert summarize_seeds([90.0, 91.0], []).statement is None


def test_latency_is_measured_with_one_thread_and_throughput_with_all() -> None:
    before = torch.get_num_threads()
    calls: list[tuple[int, int]] = []

    def call(images: torch.Tensor) -> None:
        calls.append((len(images), torch.get_num_threads()))

    torch.set_num_threads(2)
    try:
        speed = measure_callables(call, call, (1, 8, 8))
    finally:
        torch.set_num_threads(before)
    assert set(calls) == {(1, 1), (32, 2)}
    assert speed.latency_ms.p95 >= speed.latency_ms.p50 > 0


def test_disturbed_latency_is_measured_again_and_marked() -> None:
    """Bursts of 60 fast calls between slow ones: in every measurement a window has a burst."""
    calls = itertools.count()

    def call(_: torch.Tensor) -> None:
        if next(calls) % 160 >= 60:
            time.sleep(0.005)

    latency = measure_callables(call, lambda _: None, (1, 8, 8)).latency_ms
    assert latency.unsteady
    assert latency.spread is not None
    assert latency.spread > STEADY_SPREAD


def test_slow_single_calls_make_a_latency_unsteady() -> None:
    """Every eighth call waits for other load, so the medians of all windows are equal."""
    calls = itertools.count()

    def call(_: torch.Tensor) -> None:
        time.sleep(0.02 if next(calls) % 8 == 0 else 0.001)

    latency = measure_callables(call, lambda _: None, (1, 8, 8)).latency_ms
    assert latency.p95 > STEADY_TAIL * latency.p50
    assert latency.unsteady


def test_repeated_measurement_counts_if_it_is_steadier() -> None:
    calls = itertools.count()

    def call(_: torch.Tensor) -> None:
        time.sleep(0.001 if next(calls) < 60 else 0.008)

    assert measure_callables(call, lambda _: None, (1, 8, 8)).latency_ms.p50 > 5


@pytest.mark.parametrize("k", [1, 2, 3])
def test_equal_logits_rank_as_in_a_stable_sort(k: int) -> None:
    """Eight-bit logits are often equal."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randint(0, 3, (500, 6), generator=generator).float()
    target = torch.randint(0, 6, (500,), generator=generator)
    order = np.argsort(-logits.numpy(), axis=1, kind="stable")[:, :k]
    hits = (order == target.numpy()[:, None]).any(axis=1)
    assert metrics.top_k_accuracy(logits, target, k) == 100 * int(hits.sum()) / 500
    if k == 1:
        assert hits.sum() == int((logits.argmax(dim=1) == target).sum())


def test_nan_is_no_hit() -> None:
    logits = torch.tensor([[0.0, 1.0, math.nan], [0.0, 1.0, 0.5], [math.nan] * 3])
    target = torch.tensor([1, 1, 1])
    assert metrics.top_k_accuracy(logits, target, 1) == pytest.approx(100 / 3)


def test_cost_is_measured_at_the_networks_input() -> None:
    """Gray images of 8 pixels, an RGB network at 16: the cost is that of (3, 16, 16)."""
    rgb = Normalization(mean=(0.5,) * 3, std=(0.25,) * 3)
    network = build("cifar/resnet8", num_classes=3, in_channels=3, input_size=16)
    evaluator = make_evaluator(("a", "b", "c"))
    student = NormalizedModel(network, rgb, 16, channels="repeat").eval()
    assert evaluator.input_shape(student) == (3, 16, 16)
    small = build("cifar/resnet8", num_classes=3, in_channels=1, input_size=8)
    gray = NormalizedModel(small, Normalization(mean=(0.5,), std=(0.25,))).eval()
    assert evaluator.measure_cost(student).macs > 3.9 * evaluator.measure_cost(gray).macs


def test_report_from_before_the_exports_is_valid() -> None:
    evaluation = make_evaluator(("a", "b", "c")).evaluate(logits_for(PREDICTED).float(), None, COST)
    old = {
        "student": evaluation.model_dump(exclude={"cpu_latency_ms", "cpu_images_per_s"}),
        "teacher": None,
        "baseline": None,
        "verdict": {"accepted": None, "checks": []},
        "seeds": {
            "num_seeds": 1,
            "student_top1": {"mean": 60.0, "std": None},
            "baseline_top1": None,
            "top1_gain": None,
        },
        "epochs": {"best_epoch": 1, "best_val_top1": 60.0, "last_val_top1": 60.0},
        "normalization": {"mean": [0.5], "std": [0.5]},
        "device": "cpu",
    }
    report = Report.model_validate(old)
    assert (report.exports, report.confusion, report.seeds.statement) == ({}, None, None)
