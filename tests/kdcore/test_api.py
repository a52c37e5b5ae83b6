"""``from kdcore import distill, evaluate``: lazy imports, results, resumed runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

import kdcore
from kdcore import distill, evaluate
from kdcore.recipes import model_files
from kdcore.recipes.runner import RunSpec, run_recipe
from kdcore.runtime.errors import RunCancelledError, UserError
from tests.kdcore.recipe_runs import QUICK_TRAINING, QUIET, CancelAfterEpoch, digits_recipe

FROZEN_TRAINING = QUICK_TRAINING | {"optimizer": {"type": "sgd", "lr": 1e-9, "weight_decay": 0}}


def event_lines(folder: Path) -> list[str]:
    return (folder / ".work" / "events.jsonl").read_text().splitlines()


def test_public_names_load_torch_on_first_use(subprocess_environment):
    code = "import sys, kdcore, kdcore.protocol.requests;"
    code += "print('torch' in sys.modules, 'numpy' in sys.modules); kdcore.distill;"
    code += "print('numpy' in sys.modules)"
    completed = subprocess.run(
        [sys.executable, "-c", code],
        env=subprocess_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert completed.stdout.splitlines() == ["False False", "True"]
    assert "distill" in dir(kdcore)
    with pytest.raises(AttributeError, match="no attribute 'teach'"):
        _ = kdcore.teach


def test_result_has_the_network_its_report_and_its_history(teacher_run, digits_store):
    data = load_file(digits_store)
    logits = teacher_run.load()(data["test/images"])
    top1 = 100 * float((logits.argmax(1) == data["test/targets"]).double().mean())
    assert top1 == pytest.approx(teacher_run.report.student.top1)
    assert top1 > 30
    steps, losses = zip(*teacher_run.history["train/loss"], strict=True)
    assert list(steps) == sorted(set(steps))
    assert losses[-1] < losses[0]
    assert len(teacher_run.history["val/top1"]) == 3
    assert (teacher_run.path / "report.json").exists()
    assert repr(teacher_run).startswith("DistillationResult(top1 ")


def test_teachers_may_be_a_result_and_a_state_dict(current_folder, teacher_run, digits_store):
    state_dict = teacher_run.load().network.state_dict()
    config = {"architecture": "cifar/resnet8", "input_size": 8}
    normalization = teacher_run.report.normalization.model_dump(mode="json")
    student = distill(
        "cifar/resnet8",
        digits_store,
        teachers=[
            teacher_run,
            {**config, "weights": state_dict, "normalization": normalization},
        ],
        training=QUICK_TRAINING,
        evaluation={"baseline": False},
        **QUIET,
    )
    assert student.path.parent == current_folder / "distilled"
    # Two teachers with the same weights have the accuracy of one.
    teacher = student.report.teacher
    assert teacher is not None
    assert teacher.top1 == pytest.approx(teacher_run.report.student.top1)
    assert teacher.num_params == 2 * teacher_run.report.student.num_params
    measured = evaluate(teacher_run, digits_store, **QUIET)
    assert measured.report.student.top1 == pytest.approx(teacher_run.report.student.top1)


def test_second_call_with_arrays_returns_the_finished_run(current_folder):
    generator = np.random.default_rng(0)
    labels = np.arange(80) % 2
    images = generator.integers(0, 40, (80, 8, 8), dtype=np.uint8)
    images[labels == 1] += 160
    recipe = {"student": {"architecture": "cifar/resnet8"}, "dataset": (images, labels)}
    recipe |= {"training": {"epochs": 2, "batch_size": 16}, "threads": 1}
    first = distill(recipe, progress=False)
    changed = (first.path / "student.safetensors").stat().st_mtime_ns
    again = distill(recipe, progress=False)
    assert (again.path, again.report) == (first.path, first.report)
    assert (again.path / "student.safetensors").stat().st_mtime_ns == changed
    assert again.load()(torch.from_numpy(images[:4, None])).shape == (4, 2)


def test_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(current_folder, digits_store):
    recipe = digits_recipe(digits_store, training={"epochs": 3, "batch_size": 256})
    cancel = CancelAfterEpoch(2)
    with pytest.raises(RunCancelledError):
        run_recipe(RunSpec(recipe, current_folder, current_folder / "resumed"), cancel, cancel)
    assert not (current_folder / "resumed" / "report.json").exists()
    resumed = distill(recipe, out="resumed", progress=False)
    uninterrupted = distill(recipe, out="uninterrupted", progress=False)
    resume_events = [line for line in event_lines(resumed.path) if '"resumed_from_step":' in line]
    assert len(resume_events) == 1
    runs = (resumed, uninterrupted)
    students = [(run.path / model_files.STUDENT_FILE).read_bytes() for run in runs]
    assert students[0] == students[1]
    assert resumed.history["val/top1"] == uninterrupted.history["val/top1"]


def test_folder_of_another_recipe_is_refused(current_folder, teacher_run, digits_store):
    with pytest.raises(UserError, match="holds the run of another recipe") as caught:
        distill(
            "cifar/resnet8",
            digits_store,
            out=teacher_run.path,
            seed=3,
            training={"epochs": 3, "batch_size": 64},
            **QUIET,
        )
    assert [(i.name, i.detail) for i in caught.value.items] == [("seed", "was 0, is 3")]
    assert "seed: was 0, is 3" in str(caught.value).splitlines()


def test_student_continues_from_an_earlier_run(current_folder, teacher_run, digits_store):
    start = {"folder": str(teacher_run.path), "checkpoint": "last"}
    training = QUICK_TRAINING | {"optimizer": {"type": "sgd", "lr": 1e-6}}
    for checkpoint in ("best", "last"):
        continued = distill(
            "cifar/resnet8",
            digits_store,
            training=training,
            from_=start | {"checkpoint": checkpoint},
            **QUIET,
        )
        # With this learning rate the student hardly changes.
        assert continued.report.student.top1 > teacher_run.report.student.top1 - 15
    with pytest.raises(UserError) as caught:
        distill(
            "cifar/resnet8",
            digits_store,
            training=training,
            from_=start | {"checkpoint": "7"},
            **QUIET,
        )
    assert "no checkpoint '7'" in caught.value.items[0].detail


def test_keyword_from_starts_with_the_weights_of_a_run(current_folder, teacher_run, digits_store):
    continued = distill(
        "cifar/resnet8",
        digits_store,
        training=FROZEN_TRAINING,
        from_={"folder": str(teacher_run.path)},
        **QUIET,
    )
    weights, initial = (
        load_file(run.path / "student.safetensors") for run in (continued, teacher_run)
    )
    assert torch.allclose(weights["conv1.weight"], initial["conv1.weight"], atol=1e-6)


def test_student_with_a_channel_rule_is_evaluated_with_it(current_folder, digits_store):
    student = {"architecture": "cifar/resnet8", "channels": "repeat"}
    result = distill(student, digits_store, training=QUICK_TRAINING, **QUIET)
    measured = evaluate(result, digits_store, **QUIET)
    assert measured.report.student.top1 == result.report.student.top1
    assert measured.report.student.macs == result.report.student.macs
    assert json.loads((measured.path / "config.json").read_text())["channels"] == "repeat"


def test_teacher_with_more_classes_teaches_with_unlabeled_images(current_folder, teacher_run):
    """Digits, 240 with a label and 160 without; the teacher has two classes more."""
    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    order = [3, 9, 0, 7, 5, 2, 11, 1, 4, 10]
    state_dict = teacher_run.load().network.state_dict()
    for name in ("fc.weight", "fc.bias"):
        widened = torch.zeros(12, *state_dict[name].shape[1:])
        widened[order] = state_dict[name]
        state_dict[name] = widened
    teacher = {"weights": state_dict, "architecture": "cifar/resnet8", "num_classes": 12}
    teacher |= {"normalization": teacher_run.report.normalization.model_dump(mode="json")}
    data = {"images": images[:240], "labels": digits.target[:240]}
    result = distill(
        "cifar/resnet8",
        data | {"unlabeled_images": images[240:400]},
        teachers=[teacher | {"class_map": order, "input_size": 8}],
        training={"epochs": 1, "batch_size": 16},
        evaluation={"baseline": True},
        **QUIET,
    )
    assert result.report.teacher is not None
    assert result.report.teacher.top1 > 30
    counts = json.loads((result.path / "model_card.json").read_text())["data"]["counts"]
    assert counts["unlabeled"] == 160
    steps = -(-(counts["train"] + 160) // 16)
    losses = [result.history[f"{prefix}train/loss"] for prefix in ("", "baseline/")]
    assert losses[0][-1][0] == steps
    assert losses[1][-1][0] == 2 * steps, "the baseline trains as many steps"
