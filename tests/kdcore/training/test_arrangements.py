"""Schemes, starts and teachers of every kind, on the small world: what they tell and deliver."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional

from kdcore.data import dataset, statistics
from kdcore.data.types import SplitArrays
from kdcore.methods.base import Batch, Outputs
from kdcore.methods.common.cross_entropy import LabelLoss
from kdcore.methods.common.objective import Objective
from kdcore.methods.registry import create_method
from kdcore.models import build
from kdcore.protocol.requests import CheckpointFile
from kdcore.runtime.errors import RunCancelledError, UserError
from kdcore.schema.catalog import Normalization
from kdcore.schema.methods import FitNet, as_methods
from tests.kdcore.training.helpers import (
    ARCHITECTURE,
    CLASSES,
    StopAfter,
    World,
    events_of,
    sha256,
    train,
)

STUDENT = Path("artifacts/student.safetensors")
QUICK = {"epochs": 1}


def report_of(workdir: Path) -> dict[str, Any]:
    return dict(events_of(workdir, "report")[-1]["report"])


def names_of(workdir: Path) -> set[str]:
    return {name for event in events_of(workdir, "metrics") for name in event["values"]}


def test_peers_teach_each_other(world: World, tmp_path: Path) -> None:
    scheme = {"type": "mutual", "peers": ["cifar/resnet14"]}
    done = train(world.request("supervised", 0, QUICK, scheme=scheme), tmp_path)
    names = names_of(done)
    assert {"train/loss/peers/kd", "peer1/train/loss/peers/kd", "peer1/val/top1"} <= names
    told = report_of(done)["details"]
    assert [network["name"] for network in told["networks"]] == ["student", "peer1"]
    assert told["networks"][1]["architecture"] == "cifar/resnet14"
    assert 0 <= told["ensemble_top1"] <= 100


def test_what_peers_say_is_the_divergence_of_their_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    own, peer = (torch.randn(6, 5, generator=generator) for _ in range(2))
    objective = Objective([create_method(*as_methods("kd"))], LabelLoss(0.0), [1.0], 1)
    objective.methods[0].temperature = 1.0
    batch = Batch(None, torch.arange(6), 1, 1)
    loss = objective(Outputs(own), [Outputs(peer)], batch)
    p, q = functional.softmax(peer, 1), functional.softmax(own, 1)
    expected = (p * (p.log() - q.log())).sum(1).mean()
    assert float(loss.terms["kd"]) == pytest.approx(float(expected), rel=1e-5)


def test_generations_are_joined_in_the_report_and_as_one_network(
    world: World, tmp_path: Path
) -> None:
    scheme = {"type": "born_again", "generations": 2, "export_ensemble": True}
    done = train(world.request("kd", 1, QUICK, scheme=scheme), tmp_path)
    told = report_of(done)
    assert "ensemble_top1" in told["details"]
    exports = told["ensemble_exports"]
    assert set(exports) == {"onnx", "exported_program"}
    assert (done / "artifacts" / "ensemble.onnx").exists()
    assert exports["onnx"]["top1"] == pytest.approx(told["details"]["ensemble_top1"])


def test_a_student_derived_from_its_teacher(world: World, tmp_path: Path) -> None:
    student = {
        "architecture": ARCHITECTURE,
        "derive": "teacher",
        "convolution": "grouped",
        "groups": 4,
        "width": 0.5,
    }
    done = train(world.request("attention", 1, QUICK, student=student), tmp_path)
    name = f"{ARCHITECTURE}+grouped-4+width-0.5"
    network = build(name, num_classes=len(CLASSES), in_channels=1, input_size=8)
    network.load_state_dict(load_file(done / STUDENT), strict=True)
    told = report_of(done)
    assert told["student"]["num_params"] < told["teacher"]["num_params"] / 3
    assert name in (done / "artifacts" / "config.json").read_text()


def test_training_ends_early_when_nothing_improves(world: World, tmp_path: Path) -> None:
    training = {
        "epochs": 30,
        "optimizer": {"type": "sgd", "lr": 1e-12},
        "early_stopping": {"patience": 2, "min_delta": 50},
    }
    done = train(world.request(training=training), tmp_path)
    validated = [e["step"] for e in events_of(done, "metrics") if "val/top1" in e["values"]]
    assert len(validated) == 3
    assert any("no longer improves" in event["message"] for event in events_of(done, "log"))


def test_teachers_of_other_architectures_teach_together(world: World, tmp_path: Path) -> None:
    first = train(
        world.request("supervised", 0, {"epochs": 6}, student={"architecture": "cifar/wrn_16_1"}),
        tmp_path / "teacher",
    )
    request = world.request("kd", 2, QUICK)
    wide = request.teachers[1].model_copy(
        update={
            "path": str(first / STUDENT),
            "sha256": sha256(first / STUDENT),
            "architecture": "cifar/wrn_16_1",
            "weight": 3.0,
        }
    )
    mixed = request.model_copy(update={"teachers": (request.teachers[0], wide)})
    assert "train/loss/kd" in names_of(train(mixed, tmp_path / "student"))


def test_a_teacher_of_more_classes_teaches_some_of_them(world: World, tmp_path: Path) -> None:
    known = load_file(world.teacher or Path())
    order = [3, 9, 0, 7, 5, 2, 11]
    wide = dict(known)
    wide["fc.weight"], wide["fc.bias"] = (
        torch.zeros(12, known["fc.weight"].shape[1]),
        torch.zeros(12),
    )
    wide["fc.weight"][order], wide["fc.bias"][order] = known["fc.weight"], known["fc.bias"]
    path = tmp_path / "wide.safetensors"
    save_file(wide, path)
    request = world.request("kd", 1, QUICK)
    update = {
        "path": str(path),
        "sha256": sha256(path),
        "num_classes": 12,
        "class_map": tuple(order),
    }
    teacher = request.teachers[0].model_copy(update=update)
    done = train(request.model_copy(update={"teachers": (teacher,)}), tmp_path / "mapped")
    plain = train(request, tmp_path / "plain")
    assert report_of(done)["teacher"]["top1"] == report_of(plain)["teacher"]["top1"]
    first = [
        next(e["values"]["train/loss/kd"] for e in events_of(run, "metrics") if e["step"] == 1)
        for run in (done, plain)
    ]
    assert first[0] == pytest.approx(first[1], rel=1e-4)


def test_gray_images_meet_a_color_network_by_rule(world: World, tmp_path: Path) -> None:
    student = {"architecture": ARCHITECTURE, "channels": "repeat"}
    done = train(world.request("kd", 1, QUICK, student=student), tmp_path)
    assert load_file(done / STUDENT)["conv1.weight"].shape[1] == 3
    told = report_of(done)
    assert told["normalization"]["mean"] == [world.info.normalization.mean[0]] * 3


def test_an_evaluation_trains_nothing(world: World, tmp_path: Path) -> None:
    request = world.request("supervised", 0, QUICK, kind="evaluate", model="mdl_1")
    request = request.model_copy(update={"init": world.model(world.teacher or Path())})
    done = train(request, tmp_path / "evaluation")
    told = report_of(done)
    teacher = report_of(train(world.request("kd", 1, QUICK), tmp_path / "run"))["teacher"]
    assert told["epochs"] is None
    assert told["student"]["top1"] == teacher["top1"]
    assert sha256(done / STUDENT) == sha256(world.teacher or Path())
    assert not events_of(done, "checkpoint")


def test_a_job_goes_on_from_an_earlier_ones_checkpoint(world: World, tmp_path: Path) -> None:
    first = train(world.request("kd", 1, {"epochs": 2}), tmp_path / "first")
    path = max((first / "checkpoints").glob("*.pt"))
    start = CheckpointFile(path=str(path), sha256=sha256(path))
    still = {"epochs": 1, "optimizer": {"type": "sgd", "lr": 1e-12, "weight_decay": 0}}
    request = world.request("kd", 1, still).model_copy(update={"continue_from": start})
    done = train(request, tmp_path / "second")
    ours, theirs = load_file(done / STUDENT), load_file(first / STUDENT)
    assert torch.allclose(ours["fc.weight"], theirs["fc.weight"], atol=1e-6)


def continued(run: Path) -> CheckpointFile:
    path = max((run / "checkpoints").glob("*.pt"))
    return CheckpointFile(path=str(path), sha256=sha256(path))


STILL = {"epochs": 1, "optimizer": {"type": "sgd", "lr": 1e-12, "weight_decay": 0}}


def test_the_last_checkpoint_of_a_cohort_is_of_its_student(world: World, tmp_path: Path) -> None:
    scheme = {"type": "mutual", "peers": ["cifar/resnet14"]}
    first = train(world.request("supervised", 0, QUICK, scheme=scheme), tmp_path / "first")
    request = world.request("supervised", 0, STILL)
    done = train(
        request.model_copy(update={"continue_from": continued(first)}), tmp_path / "second"
    )
    ours, theirs = load_file(done / STUDENT), load_file(first / STUDENT)
    assert torch.allclose(ours["conv1.weight"], theirs["conv1.weight"], atol=1e-6)


def test_weights_that_go_on_keep_the_normalization_that_they_know(
    world: World, tmp_path: Path
) -> None:
    other = Normalization(mean=(0.25,), std=(0.75,))
    init = world.model(world.teacher or Path()).model_copy(update={"normalization": other})
    request = world.request("supervised", 0, QUICK).model_copy(update={"init": init})
    first = train(request, tmp_path / "first")
    again = world.request("supervised", 0, STILL)
    done = train(again.model_copy(update={"continue_from": continued(first)}), tmp_path / "second")
    assert report_of(done)["normalization"] == {"mean": [0.25], "std": [0.75]}


def test_a_checkpoint_from_before_the_student_is_refused(world: World, tmp_path: Path) -> None:
    scheme = {"type": "teacher_assistant", "assistants": ["cifar/resnet14"]}
    with pytest.raises(RunCancelledError):
        train(world.request("kd", 1, QUICK, scheme=scheme), tmp_path / "first", StopAfter(4))
    request = world.request("kd", 1, QUICK)
    request = request.model_copy(update={"continue_from": continued(tmp_path / "first")})
    with pytest.raises(UserError, match="before its student"):
        train(request, tmp_path / "second")


def test_peers_do_not_start_from_the_students_weights(world: World, tmp_path: Path) -> None:
    scheme = {"type": "mutual", "peers": [ARCHITECTURE]}
    request = world.request("supervised", 0, QUICK, scheme=scheme)
    request = request.model_copy(update={"init": world.model(world.teacher or Path())})
    values = [e["values"] for e in events_of(train(request, tmp_path), "metrics")]
    first = next(each for each in values if "train/loss/peers/kd" in each)
    assert first["train/loss/peers/kd"] > 0.1


def test_weights_of_another_network_are_refused(world: World, tmp_path: Path) -> None:
    request = world.request("supervised", 0, QUICK, student={"architecture": "cifar/resnet14"})
    request = request.model_copy(update={"init": world.model(world.teacher or Path())})
    with pytest.raises(UserError, match="not those of cifar/resnet14"):
        train(request, tmp_path)


def test_patience_begins_when_answers_are_learned(world: World, tmp_path: Path) -> None:
    method = FitNet(type="fitnet", stage_one=0.5)
    training = {"epochs": 6, "early_stopping": {"patience": 1, "min_delta": 100}}
    done = train(world.request((method,), 1, training), tmp_path)
    validated = [e["step"] for e in events_of(done, "metrics") if "val/top1" in e["values"]]
    # Three epochs of hints, one that sets the mark, one without an improvement.
    assert len(validated) == 5


def test_patience_begins_at_once_where_peers_teach_answers(world: World, tmp_path: Path) -> None:
    method = FitNet(type="fitnet", stage_one=0.5)
    training = {"epochs": 6, "early_stopping": {"patience": 1, "min_delta": 100}}
    scheme = {"type": "mutual", "peers": [ARCHITECTURE]}
    done = train(world.request((method,), 1, training, scheme=scheme), tmp_path)
    told = [e for e in events_of(done, "metrics") if "val/top1" in e["values"]]
    # One sets the mark, one brings nothing, both while of the teacher's only the hint counts.
    assert len(told) == 2
    first = next(e["values"] for e in events_of(done, "metrics") if "train/loss" in e["values"])
    assert {"train/loss/fitnet_hint", "train/loss/peers/kd"} <= set(first)
    assert "train/loss/cross_entropy" not in first


def test_images_without_labels_join_what_needs_none(world: World, tmp_path: Path) -> None:
    splits = {split: SplitArrays(*_split(world, split)) for split in ("train", "val", "test")}
    more = splits["train"].images[:96]
    parts = {**splits, "unlabeled": SplitArrays(more, np.full(96, -1))}
    path = tmp_path / "more.safetensors"
    dataset.write_dataset(path, parts, statistics.describe(CLASSES, parts, 0))
    steps = {}
    for method in ("kd", "dkd"):
        request = world.request(method, 1, QUICK, evaluation={"baseline": True})
        data = request.dataset.model_copy(update={"path": str(path), "sha256": sha256(path)})
        done = train(request.model_copy(update={"dataset": data}), tmp_path / method)
        for prefix in ("", "baseline/"):
            told = [
                e["step"]
                for e in events_of(done, "metrics")
                if f"{prefix}train/loss" in e["values"]
            ]
            steps[method, prefix] = max(told)
    # 225 images in batches of 32, 321 with the unlabeled ones; a lone last image is left out.
    # The baseline sees no image without a label, and has the same steps for the others.
    assert steps == {
        ("kd", ""): 10,
        ("kd", "baseline/"): 10,
        ("dkd", ""): 7,
        ("dkd", "baseline/"): 7,
    }


def _split(world: World, split: Any) -> tuple[Any, Any]:
    data = dataset.load_dataset(world.dataset)
    return data.images(split).numpy(), data.targets(split).numpy()


@pytest.mark.parametrize("where", ["student", "teacher"])
def test_a_tap_that_does_not_exist_is_named(world: World, tmp_path: Path, where: str) -> None:
    student = {"architecture": ARCHITECTURE}
    request = world.request("attention", 1, QUICK, student=student)
    if where == "student":
        student = {**student, "taps": ["layer1", "layer9"]}
        request = world.request("attention", 1, QUICK, student=student)
    else:
        teacher = request.teachers[0].model_copy(update={"taps": ("layer9",)})
        request = request.model_copy(update={"teachers": (teacher,)})
    with pytest.raises(UserError, match="layer9"):
        train(request, tmp_path)


@pytest.mark.parametrize("student", [["layer1", "layer2", "layer3"], ["layer1", "layer2"]])
def test_a_named_tap_is_never_left_out(world: World, tmp_path: Path, student: list[str]) -> None:
    network = {"architecture": ARCHITECTURE, "taps": student}
    request = world.request("nst", 1, QUICK, student=network)
    teacher = request.teachers[0].model_copy(update={"taps": ("layer1",)})
    with pytest.raises(UserError, match=f"{len(student)} taps are named .* has 1"):
        train(request.model_copy(update={"teachers": (teacher,)}), tmp_path)
    assert not any("train/loss" in name for name in names_of(tmp_path))


def test_named_taps_are_the_maps_that_teach(world: World, tmp_path: Path) -> None:
    student = {"architecture": ARCHITECTURE, "taps": ["layer3"]}
    named = world.request("attention", 1, QUICK, student=student)
    teacher = named.teachers[0].model_copy(update={"taps": ("layer3",)})
    one = train(named.model_copy(update={"teachers": (teacher,)}), tmp_path / "one")
    every = train(world.request("attention", 1, QUICK), tmp_path / "every")
    first = [
        next(
            e["values"]["train/loss/attention"] for e in events_of(run, "metrics") if e["step"] == 1
        )
        for run in (one, every)
    ]
    assert first[0] != first[1]


def test_a_class_of_no_weight_says_nothing_even_smoothed() -> None:
    logits = torch.randn(2, 2, generator=torch.Generator().manual_seed(1))
    labels = LabelLoss(1.0, 0.1, torch.tensor([0.0, 1.0]))
    loss = labels.cross_entropy(logits, Batch(torch.tensor([0, 0]), torch.arange(2), 1, 1))
    assert loss is not None
    assert float(loss) == 0.0


def test_labels_may_count_by_class_or_be_missing() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.tensor([0, 1, -1, 2, -1])
    weights = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    batch = Batch(target, torch.arange(5), 1, 1)
    found = LabelLoss(1.0, 0.2, weights).cross_entropy(logits, batch)
    expected = functional.cross_entropy(
        logits, target, weights, ignore_index=-1, label_smoothing=0.2
    )
    assert float(found or 0) == pytest.approx(float(expected))
    nobody = LabelLoss(1.0).cross_entropy(
        logits, Batch(torch.full((5,), -1), torch.arange(5), 1, 1)
    )
    assert float(nobody if nobody is not None else 1) == 0.0
