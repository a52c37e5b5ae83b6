"""What a report finds wrong with a student: a diverged training, or harm by distillation."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from kdcore.evaluation.plausibility import StudentLogits, TrainingCourse, find_issues
from kdcore.schema.report import Finding

CLASSES = 10
TARGET = torch.arange(400) % CLASSES
COURSE = TrainingCourse(
    epochs=3, best_epoch=2, lr=0.1, label_weight=0.1, lowest_val_loss=1.0, last_val_loss=1.2
)


def logits_with(num_right: int, first: int = 0) -> Tensor:
    """Logits that are right for ``num_right`` images from ``first`` on."""
    right = torch.zeros(len(TARGET), dtype=torch.bool)
    right[first : first + num_right] = True
    predicted = torch.where(right, TARGET, (TARGET + 1) % CLASSES)
    return torch.nn.functional.one_hot(predicted, CLASSES).float()


def findings(course: dict[str, Any], student: int, baseline: int | None, **teacher: Any) -> Any:
    baselines = [] if baseline is None else [logits_with(baseline)]
    logits = StudentLogits([logits_with(student)], baselines, TARGET)
    return find_issues(COURSE._replace(**course), logits, teacher.get("teacher_top1", 90.0))


def codes(*args: Any, **teacher: Any) -> list[str]:
    return [finding.code for finding in findings(*args, **teacher)]


def test_usual_training_has_no_findings() -> None:
    assert codes({}, 300, 280) == []
    assert codes({}, 300, None) == []
    # Overfitting: the loss rises tenfold.
    assert codes({"lowest_val_loss": 0.1, "last_val_loss": 1.0}, 300, 280) == []
    # A perfect network raises its loss from almost nothing.
    assert codes({"lowest_val_loss": 1e-4, "last_val_loss": 0.1}, 390, None) == []
    # A student that imitates large logits has a large loss from the start.
    assert codes({"lowest_val_loss": 4e3, "last_val_loss": 5e3}, 300, None) == []
    # Checkpoints of older versions have no losses.
    assert codes({"lowest_val_loss": None, "last_val_loss": None}, 300, None) == []


@pytest.mark.parametrize("last", [1.8e15, 300.0, math.inf, math.nan])
def test_exploding_validation_loss_is_a_divergence(last: float) -> None:
    course = {"last_val_loss": last, "lr": 100.0, "largest_term": "kd"}
    (finding,) = findings(course, 300, None)
    assert finding.code == "diverged"
    assert ("from 1 to" in finding.message) == math.isfinite(last)
    assert "training.optimizer.lr (100), for instance to 10" in finding.hint
    assert "largest term of the loss (kd)" in finding.hint


@pytest.mark.parametrize(("right", "is_chance"), [(0, True), (40, True), (48, True), (60, False)])
def test_student_at_chance_has_learned_nothing(right: int, is_chance: bool) -> None:
    """One of ten classes is right for 40 of 400 images; 50 or more are rarer than 5 %."""
    assert codes({}, right, None) == (["no_better_than_chance"] if is_chance else [])


def test_student_at_chance_with_a_large_loss_has_diverged() -> None:
    """The loss was as large in the first epoch, so it did not rise."""
    (finding,) = findings({"lowest_val_loss": 1.3e13, "last_val_loss": 3.2e13}, 40, None)
    assert finding.code == "diverged"
    assert "validation loss is 3.2e+13, that of a guess 2.3, and top-1 10.0 %" in finding.message
    assert "too short" not in finding.cause


def test_student_that_always_predicts_the_largest_class_is_at_chance() -> None:
    target = torch.tensor([0] * 6 + [1] * 2)
    logits = torch.tensor([[1.0, 0.0]]).expand(8, 2)
    (finding,) = find_issues(COURSE, StudentLogits([logits], [], target), None)
    assert finding.code == "no_better_than_chance"
    assert "top-1 75.0 %" in finding.message
    assert "3 epochs" in finding.cause
    # Seven of eight are better, although eight images decide nothing.
    better = logits.clone()
    better[6] = torch.tensor([0.0, 1.0])
    assert find_issues(COURSE, StudentLogits([better], [], target), None) == ()


def test_student_worse_than_its_baseline_is_reported_with_the_numbers() -> None:
    (finding,) = findings({"best_epoch": 3}, 215, 269, teacher_top1=80.3)
    assert finding.code == "worse_than_baseline"
    assert "top-1 53.8 %, 67.2 % without distillation; the teacher has 80.3 %" in finding.message
    assert "still improved in the last epoch" in finding.cause
    assert "more than 3 epochs" in finding.hint
    assert "label_weight (0.1)" in finding.hint
    assert finding.message in finding.sentence
    assert finding.hint in finding.sentence


@pytest.mark.parametrize(
    ("course", "teacher", "cause"),
    [
        ({}, 60.0, "the teacher is no better"),
        ({}, 80.0, "outweighs the labels"),
        ({}, None, "outweighs the labels"),
        ({"last_val_loss": 1e9}, 80.0, "the training diverged"),
    ],
)
def test_harm_has_its_likely_cause(
    course: dict[str, Any], teacher: float | None, cause: str
) -> None:
    assert cause in findings(course, 215, 269, teacher_top1=teacher)[-1].cause


def test_measured_fault_of_the_teacher_comes_first_and_explains_harm() -> None:
    fault = Finding(code="wrong_normalization", message="29.5 %, 96.0 %", cause="c", hint="h")
    logits = StudentLogits([logits_with(215)], [logits_with(269)], TARGET)
    first, harm = find_issues(COURSE, logits, 60.0, [fault])
    assert first is fault
    assert harm.code == "worse_than_baseline"
    assert harm.cause == "the teacher's normalization is probably wrong"
    assert "better teacher" not in harm.hint


def test_short_training_at_chance_is_too_short_and_has_not_diverged() -> None:
    chance, harm = findings({}, 40, 269)
    assert chance.message.startswith("the student is no better than the majority class: top-1 10")
    assert chance.cause.startswith("the training is too short (3 epochs), or the learning rate")
    assert chance.hint.startswith("train for more epochs; if that does not help, lower training.")
    assert "diverged" not in harm.sentence
    assert harm.cause == "the student is no better than the majority class"
    (long,) = findings({"epochs": 60}, 40, None)
    assert long.cause.endswith("is too high, or the training is too short (60 epochs)")
    assert long.hint.startswith("lower training.optimizer.lr")
    assert long.hint.endswith("or train for more epochs")


def test_small_difference_is_no_harm() -> None:
    """Two images are lost and one is won."""
    baseline, student = logits_with(300, first=2), logits_with(300, first=1)
    student[300:302] = logits_with(0)[300:302]
    assert find_issues(COURSE, StudentLogits([student], [baseline], TARGET), 90.0) == ()
    # The same loss with each of many seeds is more than chance.
    tested = StudentLogits([student] * 30, [baseline] * 30, TARGET)
    assert [finding.code for finding in find_issues(COURSE, tested, 90.0)] == [
        "worse_than_baseline"
    ]
