"""Initial weights, earlier checkpoints and teachers of a job are loaded, checked and used."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcore.models import build
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.errors import RunCancelledError, UserError
from kdcore.schema.catalog import Normalization
from tests.kdcore.training.helpers import (
    ARCHITECTURE,
    CLASSES,
    STUDENT,
    CancelAfter,
    World,
    events_of,
    metric_names,
    metric_values,
    newest_checkpoint,
    report_of,
    sha256,
    train,
    with_fields,
    with_teacher,
)

ONE_EPOCH = {"epochs": 1}
FROZEN = {"epochs": 1, "optimizer": {"type": "sgd", "lr": 1e-12, "weight_decay": 0}}
"""A training that leaves the weights as they are."""


def test_a_student_starts_from_its_initial_weights(world: World, tmp_path: Path) -> None:
    request = with_fields(world.request("supervised", 0, FROZEN), init=world.model(world.teacher))
    train(request, tmp_path)
    initial, trained = load_file(world.teacher), load_file(tmp_path / STUDENT)
    torch.testing.assert_close(trained["conv1.weight"], initial["conv1.weight"])


def test_initial_weights_of_another_network_are_refused(world: World, tmp_path: Path) -> None:
    request = world.request("supervised", 0, ONE_EPOCH, student={"architecture": "cifar/resnet14"})
    with pytest.raises(UserError, match="not those of cifar/resnet14"):
        train(with_fields(request, init=world.model(world.teacher)), tmp_path)


def continue_from(request: RunRequest, workdir: Path) -> RunRequest:
    return with_fields(request, continue_from=newest_checkpoint(workdir))


def test_a_job_continues_from_an_earlier_jobs_checkpoint(world: World, tmp_path: Path) -> None:
    first = train(world.request("kd", 1, {"epochs": 2}), tmp_path / "first")
    second = train(continue_from(world.request("kd", 1, FROZEN), first), tmp_path / "second")
    weights, earlier = load_file(second / STUDENT), load_file(first / STUDENT)
    assert torch.allclose(weights["fc.weight"], earlier["fc.weight"], atol=1e-6)


def test_a_corrupt_earlier_checkpoint_is_refused(world: World, tmp_path: Path) -> None:
    first = train(world.request("kd", 1, ONE_EPOCH), tmp_path / "first")
    request = continue_from(world.request("kd", 1, FROZEN), first)
    Path(newest_checkpoint(first).path).write_bytes(b"")
    with pytest.raises(UserError, match="missing or corrupt"):
        train(request, tmp_path / "second")


def test_continuing_a_group_takes_its_student(world: World, tmp_path: Path) -> None:
    scheme = {"type": "mutual", "peers": ["cifar/resnet14"]}
    first = train(world.request("supervised", 0, ONE_EPOCH, scheme=scheme), tmp_path / "first")
    request = continue_from(world.request("supervised", 0, FROZEN), first)
    second = train(request, tmp_path / "second")
    weights, earlier = load_file(second / STUDENT), load_file(first / STUDENT)
    assert torch.allclose(weights["conv1.weight"], earlier["conv1.weight"], atol=1e-6)


def test_continuing_keeps_the_normalization_of_the_weights(world: World, tmp_path: Path) -> None:
    normalization = Normalization(mean=(0.25,), std=(0.75,))
    init = world.model(world.teacher).model_copy(update={"normalization": normalization})
    request = with_fields(world.request("supervised", 0, ONE_EPOCH), init=init)
    first = train(request, tmp_path / "first")
    request = continue_from(world.request("supervised", 0, FROZEN), first)
    second = train(request, tmp_path / "second")
    assert report_of(second)["normalization"] == {"mean": [0.25], "std": [0.75]}


def test_a_checkpoint_before_the_student_is_refused(world: World, tmp_path: Path) -> None:
    scheme = {"type": "teacher_assistant", "assistants": ["cifar/resnet14"]}
    with pytest.raises(RunCancelledError):
        train(world.request("kd", 1, ONE_EPOCH, scheme=scheme), tmp_path / "first", CancelAfter(4))
    request = continue_from(world.request("kd", 1, ONE_EPOCH), tmp_path / "first")
    with pytest.raises(UserError, match="before its student"):
        train(request, tmp_path / "second")


def test_an_evaluation_trains_nothing(world: World, tmp_path: Path) -> None:
    request = world.request("supervised", 0, ONE_EPOCH, kind="evaluate", model="mdl_1")
    request = with_fields(request, init=world.model(world.teacher))
    workdir = train(request, tmp_path / "evaluation")
    report = report_of(workdir)
    teacher = report_of(train(world.request("kd", 1, ONE_EPOCH), tmp_path / "run"))["teacher"]
    assert report["epochs"] is None
    assert report["student"]["top1"] == teacher["top1"]
    assert sha256(workdir / STUDENT) == sha256(world.teacher)
    assert not events_of(workdir, "checkpoint")


@pytest.mark.parametrize("kind", ["permuted classes", "untrained"])
def test_a_teacher_at_chance_level_is_refused(world: World, tmp_path: Path, kind: str) -> None:
    if kind == "untrained":
        torch.manual_seed(0)
        state = build(ARCHITECTURE, num_classes=7, in_channels=1, input_size=8).state_dict()
    else:
        state = load_file(world.teacher)
        for name in ("fc.weight", "fc.bias"):
            state[name] = state[name].roll(1, 0)
    path = tmp_path / "teacher.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
    request = with_teacher(world.request(), path=str(path), sha256=sha256(path))
    reason = "in another order" if kind == "permuted classes" else "no better than chance"
    with pytest.raises(UserError, match=reason) as caught:
        train(request, tmp_path)
    assert caught.value.code == "teacher_load_failed"
    assert caught.value.hint is not None
    assert ("normalization" in caught.value.hint) == (kind == "untrained")
    assert not events_of(tmp_path, "artifact")


def test_a_teacher_file_with_another_digest_is_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="changed after verification"):
        train(with_teacher(world.request(), sha256="0" * 64), tmp_path)


def test_teachers_of_different_architectures_teach_together(world: World, tmp_path: Path) -> None:
    student = {"architecture": "cifar/wrn_16_1"}
    first = train(
        world.request("supervised", 0, {"epochs": 6}, student=student), tmp_path / "teacher"
    )
    request = world.request("kd", 2, ONE_EPOCH)
    wide = request.teachers[1].model_copy(
        update={
            "path": str(first / STUDENT),
            "sha256": sha256(first / STUDENT),
            "architecture": "cifar/wrn_16_1",
            "weight": 3.0,
        }
    )
    request = with_fields(request, teachers=(request.teachers[0], wide))
    assert "train/loss/kd" in metric_names(train(request, tmp_path / "student"))


def test_a_teacher_of_more_classes_teaches_the_mapped_ones(world: World, tmp_path: Path) -> None:
    state = load_file(world.teacher)
    class_map = [3, 9, 0, 7, 5, 2, 11]
    for name in ("fc.weight", "fc.bias"):
        extended = torch.zeros(12, *state[name].shape[1:])
        extended[class_map] = state[name]
        state[name] = extended
    path = tmp_path / "wide.safetensors"
    save_file(state, path)
    request = world.request("kd", 1, ONE_EPOCH)
    mapped_request = with_teacher(
        request, path=str(path), sha256=sha256(path), num_classes=12, class_map=tuple(class_map)
    )
    mapped = train(mapped_request, tmp_path / "mapped")
    plain = train(request, tmp_path / "plain")
    assert report_of(mapped)["teacher"]["top1"] == report_of(plain)["teacher"]["top1"]
    losses = [metric_values(run, "train/loss/kd")[0] for run in (mapped, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_student_is_derived_from_its_teacher(world: World, tmp_path: Path) -> None:
    student = {
        "architecture": ARCHITECTURE,
        "derive": "teacher",
        "convolution": "grouped",
        "groups": 4,
        "width": 0.5,
    }
    workdir = train(world.request("attention", 1, ONE_EPOCH, student=student), tmp_path)
    name = f"{ARCHITECTURE}+grouped-4+width-0.5"
    network = build(name, num_classes=len(CLASSES), in_channels=1, input_size=8)
    network.load_state_dict(load_file(workdir / STUDENT), strict=True)
    report = report_of(workdir)
    assert report["student"]["num_params"] < report["teacher"]["num_params"] / 3
    assert name in (workdir / "artifacts" / "config.json").read_text()
