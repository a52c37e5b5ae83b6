"""One run from request to report: what it tells, what it refuses, what it leaves alone."""

import itertools
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from kdcore.data import dataset
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.teachers import TeacherEnsemble
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.errors import NonFiniteError, UserError
from kdcore.schema.report import Report
from kdcore.schema.training import Schedule
from kdcore.training.checkpoint import CheckpointSchedule
from kdcore.training.loop import optim
from tests.kdcore.training.helpers import ARCHITECTURE, CLASSES, World, events_of, sha256, train


@pytest.fixture(scope="module")
def done(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    request = world.request(
        evaluation={"baseline": True, "seeds": 2},
        accept={"min_top1": 10, "max_num_params": 5, "max_top1_drop": 90},
        training={"epochs": 2},
    )
    return train(request, tmp_path_factory.mktemp("done"))


def report_of(workdir: Path) -> Report:
    return Report.model_validate(events_of(workdir, "report")[-1]["report"])


def logits_of(world: World, weights: Path) -> tuple[Tensor, Tensor]:
    network = build(ARCHITECTURE, num_classes=len(CLASSES), in_channels=1, input_size=8)
    network.load_state_dict(load_file(weights))
    data = dataset.load_dataset(world.dataset)
    with torch.no_grad():
        logits = NormalizedModel(network, world.info.normalization).eval()(data.images("test"))
    return logits.double(), data.targets("test")


def test_the_report_is_what_the_files_say(world: World, done: Path) -> None:
    report = report_of(done)
    path = done / "artifacts" / "student.safetensors"
    student, target = logits_of(world, path)
    assert world.teacher is not None
    teacher, _ = logits_of(world, world.teacher)
    named = student.argmax(1)
    right = named == target
    found = report.student
    assert found.top1 == pytest.approx(100 * right.double().mean().item())
    top5 = student.argsort(1, descending=True)[:, :5]
    assert found.top5 == pytest.approx(
        100 * (top5 == target[:, None]).any(1).double().mean().item()
    )
    agreed = (named == teacher.argmax(1)).double().mean().item()
    assert found.agreement == pytest.approx(100 * agreed)
    p, q = teacher.softmax(1), student.softmax(1)
    assert found.kl_to_teacher == pytest.approx(
        (p * (p / q).log()).sum(1).mean().item(), rel=1e-3, abs=1e-6
    )
    ece = 0.0
    confidence = q.max(1).values
    for low in range(15):
        inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
        if inside.any():
            gap = right[inside].double().mean() - confidence[inside].mean()
            ece += abs(gap.item()) * inside.double().mean().item()
    assert found.ece == pytest.approx(100 * ece, rel=1e-3)
    assert found.per_class_top1["b"] == pytest.approx(
        100 * right[target == 1].double().mean().item()
    )
    assert found.size_bytes == path.stat().st_size
    learned = [
        v for n, v in load_file(path).items() if "running" not in n and v.is_floating_point()
    ]
    assert found.num_params == sum(tensor.numel() for tensor in learned)
    assert report.teacher is not None
    assert report.teacher.agreement == 100
    assert report.teacher.top1 > 80
    assert 0 < found.latency_ms.p50 <= found.latency_ms.p95


def test_seeds_are_paired(done: Path) -> None:
    report = report_of(done)
    by_seed = report.details["test_top1_by_seed"]
    pairs = list(zip(by_seed["student"], by_seed["baseline"], strict=True))
    assert report.seeds.num_seeds == len(pairs) == 2
    assert report.student.top1 == pairs[0][0]
    assert report.seeds.top1_gain is not None
    assert report.seeds.top1_gain.mean == pytest.approx(sum(s - b for s, b in pairs) / 2)
    assert report.seeds.student_top1.std == pytest.approx(abs(pairs[0][0] - pairs[1][0]) / 2**0.5)


def test_the_verdict_names_every_criterion(done: Path) -> None:
    verdict = report_of(done).verdict
    assert {check.name: check.passed for check in verdict.checks} == {
        "max_top1_drop": True,
        "min_top1": True,
        "max_num_params": False,
    }
    assert verdict.accepted is False


def test_the_story_is_told_in_the_vocabulary(done: Path) -> None:
    phases = [event["phase"] for event in events_of(done, "phase")]
    assert phases == ["verifying_teacher", "training", "evaluating", "exporting"]
    metrics = events_of(done, "metrics")
    names = set(itertools.chain.from_iterable(event["values"] for event in metrics))
    plain = {name for name in names if not name.startswith(("baseline/", "seed1/"))}
    assert plain == {
        "teacher/top1", "train/loss", "train/loss/cross_entropy", "train/loss/kd", "train/lr",
        "train/images_per_s", "train/data_share", "train/memory_bytes", "val/top1", "val/top5",
        "val/loss", "val/agreement", "val/kl_to_teacher", "val/ece",
    }  # fmt: skip
    assert {"baseline/val/top1", "seed1/train/loss", "seed1/baseline/val/agreement"} <= names
    points = [e for e in metrics if "train/loss" in e["values"]]
    assert 2 <= len(points) <= 2 * 20
    for event in points:
        values = event["values"]
        mixed = 0.1 * values["train/loss/cross_entropy"] + 0.9 * values["train/loss/kd"]
        assert values["train/loss"] == pytest.approx(mixed, rel=1e-4)
        assert 0 <= values["train/data_share"] <= 100
        assert values["train/memory_bytes"] > 1e6
    last = [event["progress"] for event in metrics][-1]
    assert last["fraction"] == 1
    assert last["epoch"] == last["epochs"] == 8


def test_the_artifacts_are_whole_and_tell_their_origin(world: World, done: Path) -> None:
    told = {event["name"]: event for event in events_of(done, "artifact")}
    formats = [event["format"] for event in told.values()]
    assert formats.count("safetensors") == 1
    assert set(told) == {"student.safetensors", "config.json", "model_card.json", "model_card.md"}
    for event in told.values():
        assert sha256(done / event["path"]) == event["sha256"]
    card = json.loads((done / "artifacts" / "model_card.json").read_text())
    assert card["data"]["digest"] == world.info.digest
    assert world.teacher is not None
    assert card["teachers"][0]["sha256"] == sha256(world.teacher)
    config = json.loads((done / "artifacts" / "config.json").read_text())
    assert config["classes"] == list(CLASSES)


def test_supervised_needs_no_teacher(world: World, tmp_path: Path) -> None:
    train(world.request("supervised", 0, {"epochs": 1}), tmp_path)
    report = report_of(tmp_path)
    assert report.teacher is None
    assert report.student.agreement is None
    assert events_of(tmp_path, "phase")[0]["phase"] == "training"
    assert events_of(tmp_path, "phase")[0]["runtime"]["threads"] == 1


def test_two_teachers_and_adamw(world: World, tmp_path: Path) -> None:
    recipe = {"epochs": 1, "optimizer": {"type": "adamw"}, "augmentation": {"type": "none"}}
    train(world.request("logit_matching", 2, recipe), tmp_path)
    report = report_of(tmp_path)
    assert report.teacher is not None
    assert report.teacher.num_params == 2 * report.student.num_params
    assert report.teacher.agreement == 100


def with_teacher(request: RunRequest, state: dict[str, Tensor], path: Path) -> RunRequest:
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    teacher = request.teachers[0].model_copy(update={"path": str(path), "sha256": sha256(path)})
    return request.model_copy(update={"teachers": (teacher,)})


@pytest.mark.parametrize("kind", ["classes in another order", "fresh"])
def test_the_gate_refuses_a_useless_teacher(world: World, tmp_path: Path, kind: str) -> None:
    assert world.teacher is not None
    if kind == "fresh":
        torch.manual_seed(0)
        state = build(ARCHITECTURE, num_classes=7, in_channels=1, input_size=8).state_dict()
    else:
        state = load_file(world.teacher)
        for name in ("fc.weight", "fc.bias"):
            state[name] = state[name].roll(1, 0)
    with pytest.raises(UserError, match="no better than chance") as caught:
        train(with_teacher(world.request(), state, tmp_path / "t.safetensors"), tmp_path)
    assert caught.value.code == "teacher_load_failed"
    assert caught.value.hint is not None
    assert "normalization" in caught.value.hint
    assert not events_of(tmp_path, "artifact")


def test_another_file_than_the_verified_one_is_refused(world: World, tmp_path: Path) -> None:
    request = world.request()
    teacher = request.teachers[0].model_copy(update={"sha256": "0" * 64})
    with pytest.raises(UserError, match="changed after verification"):
        train(request.model_copy(update={"teachers": (teacher,)}), tmp_path)


def test_the_teacher_is_left_as_it_was(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[TeacherEnsemble] = []
    start = TeacherEnsemble.__init__

    def remember(self: TeacherEnsemble, *arguments: object) -> None:
        start(self, *arguments)  # type: ignore[arg-type]
        made.append(self)

    monkeypatch.setattr(TeacherEnsemble, "__init__", remember)
    train(world.request(training={"epochs": 1}), tmp_path)
    assert world.teacher is not None
    kept = load_file(world.teacher)
    network = made[0].networks[0]
    assert not network.training
    assert all(torch.equal(kept[n], t) for n, t in network.network.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in network.parameters())
    before = made[0].digest()
    network.train()(torch.zeros(4, 1, 8, 8))
    assert made[0].digest() != before


def test_infinite_weights_stop_the_run(world: World, tmp_path: Path) -> None:
    assert world.teacher is not None
    state = load_file(world.teacher)
    state["conv1.weight"][0, 0, 0, 0] = float("inf")
    path = tmp_path / "bad.safetensors"
    save_file(state, path)
    init = world.model(path)
    request = world.request().model_copy(update={"init": init})
    with pytest.raises(NonFiniteError, match=r"step 1 .*term cross_entropy .*gradient has norm"):
        train(request, tmp_path)
    assert not events_of(tmp_path, "artifact")


def test_a_later_explosion_keeps_the_last_good_checkpoint(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = optim.lr_factor

    def exploding(schedule: Schedule, step: int, per_epoch: int, epochs: int) -> float:
        return 1e38 if step == 4 else real(schedule, step, per_epoch, epochs)

    monkeypatch.setattr(optim, "lr_factor", exploding)
    monkeypatch.setattr(CheckpointSchedule, "is_due", lambda _self, *, epoch_ended: True)
    with pytest.raises(NonFiniteError, match="step"):
        train(world.request(), tmp_path)
    written = events_of(tmp_path, "checkpoint")
    kept = sorted((tmp_path / "checkpoints").glob("*.pt"))
    assert written[-1]["step"] <= 5
    assert sha256(kept[-1]) == written[-1]["sha256"]
    state = torch.load(kept[-1], weights_only=True)
    assert all(
        bool(t.isfinite().all())
        for t in state["current"]["cohort"]["learners"][0]["student"].values()
    )


def test_a_student_may_start_from_given_weights(world: World, tmp_path: Path) -> None:
    assert world.teacher is not None
    recipe = {"epochs": 1, "optimizer": {"type": "sgd", "lr": 1e-9}}
    request = world.request("supervised", 0, recipe)
    train(request.model_copy(update={"init": world.model(world.teacher)}), tmp_path)
    kept = load_file(world.teacher)["conv1.weight"]
    found = load_file(tmp_path / "artifacts" / "student.safetensors")["conv1.weight"]
    assert functional.mse_loss(kept, found).item() < 1e-12


@pytest.mark.parametrize(
    ("limit", "code"), [("wall_s", "deadline_exceeded"), ("device_s", "budget_exhausted")]
)
def test_limits_count_earlier_runs(world: World, tmp_path: Path, limit: str, code: str) -> None:
    request = world.request(limits={limit: 100})
    with pytest.raises(UserError) as caught:
        train(request.model_copy(update={"elapsed_s": 101.0}), tmp_path)
    assert caught.value.code == code
