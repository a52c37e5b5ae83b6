"""A run from request to report: its events, its numbers, its artifacts, its errors."""

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kdcore.data import dataset
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.teachers import TeacherEnsemble
from kdcore.runtime.errors import NonFiniteError, UserError
from kdcore.schema.report import Report
from kdcore.training.inputs import TeacherValidation, validate_teachers
from tests.kdcore.training.helpers import (
    ARCHITECTURE,
    CLASSES,
    STUDENT,
    World,
    events_of,
    log_text,
    report_of,
    sha256,
    train,
    with_fields,
)


@pytest.fixture(scope="module")
def workdir(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete run with two seeds, baselines and a verdict."""
    request = world.request(
        evaluation={"baseline": True, "seeds": 2},
        accept={"min_top1": 10, "max_num_params": 5, "max_top1_drop": 90},
        training={"epochs": 2},
    )
    return train(request, tmp_path_factory.mktemp("run"))


def parsed_report(workdir: Path) -> Report:
    return Report.model_validate(report_of(workdir))


def compute_test_logits(world: World, weights: Path) -> tuple[Tensor, Tensor]:
    """Logits and targets of the test split."""
    network = build(ARCHITECTURE, num_classes=len(CLASSES), in_channels=1, input_size=8)
    network.load_state_dict(load_file(weights))
    data = dataset.load_dataset(world.dataset)
    with torch.no_grad():
        logits = NormalizedModel(network, world.info.normalization).eval()(data.images("test"))
    return logits.double(), data.targets("test")


def expected_calibration_error(logits: Tensor, correct: Tensor) -> float:
    confidence = logits.softmax(1).max(1).values
    error = 0.0
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            gap = correct[inside].double().mean() - confidence[inside].mean()
            error += abs(gap.item()) * inside.double().mean().item()
    return error


def test_the_report_agrees_with_the_artifacts(world: World, workdir: Path) -> None:
    report = parsed_report(workdir)
    path = workdir / STUDENT
    student, target = compute_test_logits(world, path)
    teacher, _ = compute_test_logits(world, world.teacher)
    predictions = student.argmax(1)
    correct = predictions == target
    evaluation = report.student
    assert evaluation.top1 == pytest.approx(100 * correct.double().mean().item())
    top5 = student.argsort(1, descending=True)[:, :5]
    in_top5 = (top5 == target[:, None]).any(1)
    assert evaluation.top5 == pytest.approx(100 * in_top5.double().mean().item())
    agreement = (predictions == teacher.argmax(1)).double().mean().item()
    assert evaluation.agreement == pytest.approx(100 * agreement)
    p, q = teacher.softmax(1), student.softmax(1)
    kl = (p * (p / q).log()).sum(1).mean().item()
    assert evaluation.kl_to_teacher == pytest.approx(kl, rel=1e-3, abs=1e-6)
    ece = expected_calibration_error(student, correct)
    assert evaluation.ece == pytest.approx(100 * ece, rel=1e-3)
    class_b = correct[target == CLASSES.index("b")].double().mean().item()
    assert evaluation.per_class_top1["b"] == pytest.approx(100 * class_b)
    assert evaluation.size_bytes == path.stat().st_size
    parameters = [
        tensor
        for name, tensor in load_file(path).items()
        if "running" not in name and tensor.is_floating_point()
    ]
    assert evaluation.num_params == sum(tensor.numel() for tensor in parameters)
    assert report.teacher is not None
    assert report.teacher.agreement == 100
    assert report.teacher.top1 > 80
    assert 0 < evaluation.latency_ms.p50 <= evaluation.latency_ms.p95


def test_students_and_baselines_are_paired_by_seed(workdir: Path) -> None:
    report = parsed_report(workdir)
    by_seed = report.details["test_top1_by_seed"]
    pairs = list(zip(by_seed["student"], by_seed["baseline"], strict=True))
    assert report.seeds.num_seeds == len(pairs) == 2
    assert report.student.top1 == pairs[0][0]
    assert report.seeds.top1_gain is not None
    assert report.seeds.top1_gain.mean == pytest.approx(sum(s - b for s, b in pairs) / 2)
    assert report.seeds.student_top1.std == pytest.approx(abs(pairs[0][0] - pairs[1][0]) / 2**0.5)


def test_the_verdict_lists_every_criterion(workdir: Path) -> None:
    verdict = parsed_report(workdir).verdict
    assert {check.name: check.passed for check in verdict.checks} == {
        "max_top1_drop": True,
        "min_top1": True,
        "max_num_params": False,
    }
    assert verdict.accepted is False


def test_phases_and_metrics_have_their_documented_names(workdir: Path) -> None:
    phases = [event["phase"] for event in events_of(workdir, "phase")]
    assert phases == ["verifying_teacher", "training", "evaluating", "exporting"]
    metrics = events_of(workdir, "metrics")
    names = set(itertools.chain.from_iterable(event["values"] for event in metrics))
    plain = {name for name in names if not name.startswith(("baseline/", "seed1/"))}
    assert plain == {
        "teacher/top1", "train/loss", "train/loss/cross_entropy", "train/loss/kd", "train/lr",
        "train/images_per_s", "train/data_share", "train/memory_bytes", "val/top1", "val/top5",
        "val/loss", "val/agreement", "val/kl_to_teacher", "val/ece",
    }  # fmt: skip
    assert {"baseline/val/top1", "seed1/train/loss", "seed1/baseline/val/agreement"} <= names


def test_training_metrics_are_consistent(workdir: Path) -> None:
    metrics = events_of(workdir, "metrics")
    points = [event["values"] for event in metrics if "train/loss" in event["values"]]
    assert 2 <= len(points) <= 2 * 20
    for values in points:
        total = 0.1 * values["train/loss/cross_entropy"] + 0.9 * values["train/loss/kd"]
        assert values["train/loss"] == pytest.approx(total, rel=1e-4)
        assert 0 <= values["train/data_share"] <= 100
        assert values["train/memory_bytes"] > 1e6
    last = [event["progress"] for event in metrics][-1]
    assert last["fraction"] == 1
    assert last["epoch"] == last["epochs"] == 8


def test_artifacts_are_complete_and_name_their_origin(world: World, workdir: Path) -> None:
    artifacts = {event["name"]: event for event in events_of(workdir, "artifact")}
    formats = [event["format"] for event in artifacts.values()]
    assert formats.count("safetensors") == 1
    expected = {"student.safetensors", "config.json", "model_card.json", "model_card.md"}
    assert set(artifacts) == expected
    for event in artifacts.values():
        assert sha256(workdir / event["path"]) == event["sha256"]
    card = json.loads((workdir / "artifacts" / "model_card.json").read_text())
    assert card["data"]["digest"] == world.info.digest
    assert card["teachers"][0]["sha256"] == sha256(world.teacher)
    config = json.loads((workdir / "artifacts" / "config.json").read_text())
    assert config["classes"] == list(CLASSES)


def test_supervised_training_needs_no_teacher(world: World, tmp_path: Path) -> None:
    train(world.request("supervised", 0, {"epochs": 1}), tmp_path)
    report = parsed_report(tmp_path)
    assert report.teacher is None
    assert report.student.agreement is None
    first_phase = events_of(tmp_path, "phase")[0]
    assert first_phase["phase"] == "training"
    assert first_phase["runtime"]["threads"] == 1


def test_two_teachers_train_with_adamw(world: World, tmp_path: Path) -> None:
    training = {"epochs": 1, "optimizer": {"type": "adamw"}, "augmentation": {"type": "none"}}
    train(world.request("logit_matching", 2, training), tmp_path)
    report = parsed_report(tmp_path)
    assert report.teacher is not None
    assert report.teacher.num_params == 2 * report.student.num_params
    assert report.teacher.agreement == 100


def test_training_leaves_the_teacher_unchanged(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[TeacherEnsemble] = []

    def record(*inputs: Any, log_top1: bool) -> TeacherValidation:
        loaded.extend(part for part in inputs if isinstance(part, TeacherEnsemble))
        return validate_teachers(*inputs, log_top1=log_top1)

    monkeypatch.setattr("kdcore.training.inputs.validate_teachers", record)
    train(world.request(training={"epochs": 1}), tmp_path)
    expected = load_file(world.teacher)
    network = loaded[0].networks[0]
    assert not network.training
    state = network.network.state_dict()
    assert all(torch.equal(expected[name], tensor) for name, tensor in state.items())
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    digest = loaded[0].digest()
    network.train()(torch.zeros(4, 1, 8, 8))
    assert loaded[0].digest() != digest


def test_infinite_weights_end_the_run(world: World, tmp_path: Path) -> None:
    state = load_file(world.teacher)
    state["conv1.weight"][0, 0, 0, 0] = float("inf")
    path = tmp_path / "infinite.safetensors"
    save_file(state, path)
    request = with_fields(world.request(), init=world.model(path))
    with pytest.raises(NonFiniteError, match=r"step 1 .*term cross_entropy .*gradient has norm"):
        train(request, tmp_path)
    assert not events_of(tmp_path, "artifact")


def test_diverging_weights_leave_the_last_good_checkpoint(world: World, tmp_path: Path) -> None:
    # Weight decay of 1 multiplies every weight by about -lr in each step.
    optimizer = {"type": "sgd", "lr": 100, "momentum": 0, "weight_decay": 1}
    request = world.request(training={"epochs": 9, "optimizer": optimizer})
    with pytest.raises(NonFiniteError, match="step"):
        train(with_fields(request, checkpoint_interval_s=0.0), tmp_path)
    written = events_of(tmp_path, "checkpoint")
    checkpoints = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert written[-1]["step"] > 2
    assert sha256(checkpoints[-1]) == written[-1]["sha256"]
    state = torch.load(checkpoints[-1], weights_only=True)
    weights = state["current"]["student_group"]["students"][0]["network"]
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())


@pytest.mark.parametrize(
    ("limit", "code"), [("wall_s", "deadline_exceeded"), ("device_s", "budget_exhausted")]
)
def test_limits_count_earlier_runs(world: World, tmp_path: Path, limit: str, code: str) -> None:
    request = world.request(limits={limit: 100})
    with pytest.raises(UserError) as caught:
        train(with_fields(request, elapsed_s=101.0), tmp_path)
    assert caught.value.code == code


DIVERGING = {"type": "sgd", "lr": 10.0, "momentum": 0.9}


def test_diverged_training_is_reported_and_not_accepted(world: World, tmp_path: Path) -> None:
    training = {"epochs": 2, "optimizer": DIVERGING, "schedule": {"type": "constant"}}
    accept = {"max_num_params": 10**9}
    request = world.request("supervised", num_teachers=0, training=training, accept=accept)
    verdict = parsed_report(folder := train(request, tmp_path / "run")).verdict
    assert (verdict.diverged, verdict.accepted, verdict.worse_than_baseline) == (True, False, False)
    assert [check.name for check in verdict.checks if not check.passed] == ["diverged"]
    (finding,) = verdict.findings
    assert "training.optimizer.lr (10), for instance to 1" in finding.hint
    assert "(cross_entropy)" in finding.hint
    assert finding.sentence in log_text(folder)


def test_usual_training_has_no_findings(workdir: Path) -> None:
    verdict = parsed_report(workdir).verdict
    assert (verdict.diverged, verdict.worse_than_baseline, verdict.findings) == (False, False, ())
