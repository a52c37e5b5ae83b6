"""What is measured of logits, from counts done by hand."""

import pytest
import torch

from kdcore.evaluation import metrics
from kdcore.evaluation.error_analysis import confusion, disagreements
from kdcore.evaluation.latency import Speed, measure_callables
from kdcore.evaluation.report_builder import Evaluator, NetworkCost, statement, summarize_seeds
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization
from kdcore.schema.report import Latency, Report

TARGET = torch.tensor([0, 0, 1, 1, 2])
NAMED = torch.tensor([0, 2, 1, 0, 2])
COST = NetworkCost(1, 2, 3, Speed(Latency(p50=1.0, p95=2.0), 3.0))


def nothing() -> None:
    pass


def bench_of(classes: tuple[str, ...], images: torch.Tensor | None = None) -> Evaluator:
    images = torch.zeros(5, 1, 8, 8, dtype=torch.uint8) if images is None else images
    return Evaluator(images, TARGET, classes, torch.device("cpu"), nothing)


def naming(classes: torch.Tensor, logit: float = 3.0, num_classes: int = 3) -> torch.Tensor:
    return torch.nn.functional.one_hot(classes, num_classes) * logit


def test_confusion_counts_true_classes_in_rows() -> None:
    expected = ((1, 0, 1), (1, 1, 0), (0, 0, 1))
    assert metrics.confusion(naming(NAMED), TARGET) == expected
    assert confusion(bench_of(("a", "b", "c")), naming(NAMED)) == expected
    many = bench_of(tuple(map(str, range(101))))
    assert confusion(many, naming(NAMED, num_classes=101)) is None


def test_disagreements_are_told_the_surest_first() -> None:
    teacher = naming(torch.tensor([0, 0, 1, 1, 1]), 5.0)
    student = naming(NAMED)
    student[3] = student[3] * 4
    told = disagreements(bench_of(("a", "b", "c")), student, teacher)
    assert [(d.index, d.target, d.teacher, d.student) for d in told] == [
        (3, "b", "b", "a"),
        (1, "a", "a", "c"),
        (4, "c", "b", "c"),
    ]
    e = torch.tensor([3.0, 0, 0]).double().softmax(0)[0].item()
    assert told[1].student_confidence == pytest.approx(e)
    assert told[1].teacher_confidence > told[1].student_confidence
    assert disagreements(bench_of(("a", "b", "c")), student, None) == ()


def test_at_most_fifty_disagreements_are_told() -> None:
    count = 80
    bench = Evaluator(
        torch.zeros(count, 1, 8, 8, dtype=torch.uint8),
        torch.zeros(count, dtype=torch.long),
        ("a", "b"),
        torch.device("cpu"),
        nothing,
    )
    zeros, ones = torch.zeros(count, dtype=torch.long), torch.ones(count, dtype=torch.long)
    told = disagreements(bench, naming(ones, num_classes=2), naming(zeros, num_classes=2))
    assert [one.index for one in told] == list(range(50))


def test_two_classes_and_no_teacher_are_measured() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [0.0, 2.0], [2.0, 0.0]])
    bench = Evaluator(
        torch.zeros(5, 1, 8, 8), TARGET.clamp_max(1), ("a", "b"), torch.device("cpu"), nothing
    )
    found = bench.evaluate(logits, None, COST)
    assert (found.top1, found.top5, found.agreement, found.kl_to_teacher) == (60, None, None, None)
    assert found.per_class_top1 == {"a": 50, "b": pytest.approx(200 / 3)}


@pytest.mark.parametrize(
    ("helped", "told"),
    [
        ([1.0, 1.5, 0.8], "distillation helped by 1.1 ± 0.4 points (3 seeds)"),
        (
            [2.0, -1.0],
            "distillation helped by 0.5 ± 2.1 points (2 seeds), less than the seeds differ",
        ),
        ([-1.0, -0.4], "distillation did not help: -0.7 ± 0.4 points (2 seeds)"),
        ([1.14], "one seed: +1.1 points; how much of it is chance, one seed cannot tell"),
        ([-0.26], "one seed: -0.3 points; how much of it is chance, one seed cannot tell"),
    ],
)
def test_a_sentence_says_whether_distillation_helped(helped: list[float], told: str) -> None:
    assert statement(helped) == told
    found = summarize_seeds([90 + points for points in helped], [90.0] * len(helped))
    assert found.statement == told
    assert summarize_seeds([90.0, 91.0], []).statement is None


def test_a_call_is_timed_with_one_thread_and_then_with_all() -> None:
    before = torch.get_num_threads()
    seen: list[tuple[int, int]] = []

    def call(images: torch.Tensor) -> None:
        seen.append((len(images), torch.get_num_threads()))

    torch.set_num_threads(2)
    try:
        found = measure_callables(call, call, (1, 8, 8))
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {(1, 1), (32, 2)}
    assert found.latency_ms.p95 >= found.latency_ms.p50 > 0


def test_a_network_is_measured_at_what_it_sees() -> None:
    """Gray images of 8 pixels, an RGB network at 16: the cost is that of (3, 16, 16)."""
    rgb = Normalization(mean=(0.5,) * 3, std=(0.25,) * 3)
    network = build("cifar/resnet8", num_classes=3, in_channels=3, input_size=16)
    bench = bench_of(("a", "b", "c"))
    student = NormalizedModel(network, rgb, 16, channels="repeat").eval()
    assert bench.input_shape(student) == (3, 16, 16)
    small = build("cifar/resnet8", num_classes=3, in_channels=1, input_size=8)
    gray = NormalizedModel(small, Normalization(mean=(0.5,), std=(0.25,))).eval()
    assert bench.measure_cost(student).macs > 3.9 * bench.measure_cost(gray).macs


def test_a_report_from_before_the_exports_is_still_one() -> None:
    evaluation = bench_of(("a", "b", "c")).evaluate(naming(NAMED).float(), None, COST)
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
