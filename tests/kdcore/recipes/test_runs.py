"""A run's folder, what stays in it, and runs that begin with what another one left."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from kdcore import distill, evaluate
from kdcore.recipes.run_directory import RunDirectory
from kdcore.recipes.runner import RunSpec, run_recipe
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import RunCancelledError
from tests.kdcore.recipes.conftest import QUICK

STILL = QUICK | {"optimizer": {"type": "sgd", "lr": 1e-9, "weight_decay": 0}}
PLAIN = {"progress": False, "threads": 1}


def unseen(_event):
    pass


class AfterEpoch(CancellationToken):
    """Asks for a stop when that epoch has been validated."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def __call__(self, event):
        if event.type == "metrics" and "val/top1" in event.values and event.epoch >= self.epoch:
            self.cancel()


def stopped(body, out, epoch):
    stop = AfterEpoch(epoch)
    with pytest.raises(RunCancelledError):
        run_recipe(RunSpec(body, Path.cwd(), out), stop, stop)
    return max((out / ".work" / "checkpoints").glob("step-*.pt"))


def visible(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


ALWAYS = {"student.safetensors", "config.json", "report.json", "model_card.json", "model_card.md"}


def test_fewer_exports_leave_no_file_of_another_student(here, digits):
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits), "threads": 1}
    body |= {"training": QUICK, "exports": ["exported_program"]}
    out = here / "run"
    run_recipe(RunSpec(body, here, out), unseen, CancellationToken())
    (out / "notes.txt").write_text("mine")
    assert visible(out) == {*ALWAYS, "student.pt2", "notes.txt"}
    other = body | {"student": {"architecture": "cifar/resnet14"}, "exports": ["safetensors"]}
    run_recipe(RunSpec(other, here, out, fresh=True), unseen, CancellationToken())
    assert visible(out) == {*ALWAYS, "notes.txt"}
    assert "cifar/resnet14" in (out / "config.json").read_text()


def test_what_is_published_takes_the_place_of_what_was(tmp_path):
    room = RunDirectory(tmp_path / "run")
    made = room.work / "artifacts"

    def published(*names):
        made.mkdir(parents=True, exist_ok=True)
        for name in names:
            (made / name).write_text(name)
        room.publish({"names": names})
        return visible(room.out)

    assert published("a", "b") == {"a", "b", "report.json"}
    assert published("b", "c") == {"b", "c", "report.json"}
    made.mkdir(exist_ok=True)
    (made / "torn").write_text("of a run that was stopped")
    room.write_request({"digest": "x", "job": {}})
    assert published("d") == {"d", "report.json"}
    room.clear()
    assert visible(room.out) == set()


def test_a_run_that_goes_on_from_an_unfinished_one_goes_on_when_that_does(here, digits):
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits), "threads": 1}
    first = body | {"training": QUICK | {"epochs": 3}}
    early = stopped(first, here / "first", 1)
    second = body | {"training": QUICK | {"epochs": 3}, "seed": 1}
    second |= {"from": {"folder": "first", "checkpoint": "last"}}
    stopped(second, here / "second", 1)
    distill(first, out="first", progress=False)
    early.unlink(missing_ok=True)
    early.with_suffix(".json").unlink(missing_ok=True)

    done = distill(second, out="second", progress=False)
    told = (done.path / ".work" / "events.jsonl").read_text()
    assert '"resumed_from_step":' in told

    def begun():
        request = json.loads((here / "second" / ".work" / "request.json").read_text())
        return request["job"]["from"]["job"]

    before = begun()
    run_recipe(RunSpec(second, here, here / "second", fresh=True), unseen, CancellationToken())
    assert begun() != before, "anew is from where the first one is now"


def test_a_numbered_step_is_gone_on_from_by_either_spelling(here, digits):
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits), "threads": 1}
    path = stopped(body | {"training": QUICK | {"epochs": 2}}, here / "first", 1)
    state = torch.load(path, weights_only=True)
    start = {"folder": "first", "checkpoint": str(state["step"])}
    gone_on = distill(body, training=STILL, progress=False, **{"from": start})
    kept = state["current"]["cohort"]["learners"][0]["student"]
    found = load_file(gone_on.path / "student.safetensors")
    assert torch.allclose(found["conv1.weight"], kept["conv1.weight"], atol=1e-6)
    written = (gone_on.path / "student.safetensors").stat().st_mtime_ns
    again = distill(body, training=STILL, progress=False, from_=start)
    assert again.path == gone_on.path
    assert (again.path / "student.safetensors").stat().st_mtime_ns == written


def test_a_call_says_from_as_python_can(here, taught, digits):
    done = distill(
        "cifar/resnet8", digits, training=STILL, from_={"folder": str(taught.path)}, **PLAIN
    )
    found, kept = (load_file(run.path / "student.safetensors") for run in (done, taught))
    assert torch.allclose(found["conv1.weight"], kept["conv1.weight"], atol=1e-6)


def test_a_student_of_other_channels_is_measured_as_it_was_trained(here, digits):
    student = {"architecture": "cifar/resnet8", "channels": "repeat"}
    done = distill(student, digits, training=QUICK, **PLAIN)
    measured = evaluate(done, digits, **PLAIN)
    assert measured.report.student.top1 == done.report.student.top1
    assert measured.report.student.macs == done.report.student.macs
    assert json.loads((measured.path / "config.json").read_text())["channels"] == "repeat"


def test_a_teacher_of_more_classes_and_images_without_labels(here, taught):
    """Digits, 240 with a label and 160 without; the teacher knows two classes more."""
    given = load_digits()
    images = (given.images * (255 / 16)).round().astype(np.uint8)
    order = [3, 9, 0, 7, 5, 2, 11, 1, 4, 10]
    state = taught.load().network.state_dict()
    for name in ("fc.weight", "fc.bias"):
        wide = torch.zeros(12, *state[name].shape[1:])
        wide[order] = state[name]
        state[name] = wide
    teacher = {"weights": state, "architecture": "cifar/resnet8", "num_classes": 12}
    teacher |= {"normalization": taught.report.normalization.model_dump(mode="json")}
    data = {"images": images[:240], "labels": given.target[:240]}
    done = distill(
        "cifar/resnet8",
        data | {"unlabeled_images": images[240:400]},
        teachers=[teacher | {"class_map": order, "input_size": 8}],
        training={"epochs": 1, "batch_size": 16},
        evaluation={"baseline": True},
        **PLAIN,
    )
    assert done.report.teacher is not None
    assert done.report.teacher.top1 > 30
    card = json.loads((done.path / "model_card.json").read_text())
    counts = card["data"]["counts"]
    assert counts["unlabeled"] == 160
    steps = -(-(counts["train"] + 160) // 16)
    losses = [done.history[f"{prefix}train/loss"] for prefix in ("", "baseline/")]
    assert losses[0][-1][0] == steps
    assert losses[1][-1][0] == 2 * steps, "as many for the one without a teacher"


def test_a_second_run_in_one_process_has_its_own_determinism(here, digits):
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits)}
    seen = {}
    for asked in ("strict", "fast"):
        recipe = body | {"training": QUICK | {"determinism": asked}, "threads": before[1] + 1}

        def watch(event, asked=asked):
            if event.type == "metrics":
                now = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
                seen.setdefault(asked, set()).add(now)

        run_recipe(RunSpec(recipe, here, here / asked), watch, CancellationToken())
        assert (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()) == before
    assert seen == {"strict": {(True, before[1] + 1)}, "fast": {(False, before[1] + 1)}}
