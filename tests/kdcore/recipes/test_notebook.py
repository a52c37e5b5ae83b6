"""``from kdcore import distill``: lazy, resumable, and what it gives back works."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import kdcore
from kdcore import distill, evaluate
from kdcore.recipes import model_files
from kdcore.recipes.runner import RunSpec, run_recipe
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import RunCancelledError, UserError
from tests.kdcore.recipes.conftest import QUICK


def test_torch_is_loaded_by_none_of_the_words(alone):
    code = "import sys, kdcore, kdcore.protocol.requests, kdcore.cli.commands as c;"
    code += "c.main(['methods']);"
    code += "print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=alone, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False False"
    assert "distill" in dir(kdcore)
    with pytest.raises(AttributeError, match="no attribute 'teach'"):
        _ = kdcore.teach


def test_what_comes_out_is_a_network_with_its_report_and_its_curves(taught, digits):
    data = load_file(digits)
    logits = taught.load()(data["test/images"])
    top1 = 100 * float((logits.argmax(1) == data["test/targets"]).double().mean())
    assert top1 == pytest.approx(taught.report.student.top1)
    assert top1 > 30
    steps, losses = zip(*taught.history["train/loss"], strict=True)
    assert list(steps) == sorted(set(steps))
    assert losses[-1] < losses[0]
    assert len(taught.history["val/top1"]) == 3
    assert (taught.path / "report.json").exists()


def test_a_student_of_a_run_and_of_a_state_dict(here, taught, digits):
    state = taught.load().network.state_dict()
    config = {"architecture": "cifar/resnet8", "input_size": 8}
    normalization = taught.report.normalization.model_dump(mode="json")
    student = distill(
        "cifar/resnet8",
        digits,
        teachers=[taught, {**config, "weights": state, "normalization": normalization}],
        progress=False,
        training=QUICK,
        evaluation={"baseline": False},
        threads=1,
    )
    assert student.path.parent == here / "distilled"
    # The same weights twice are one teacher.
    teacher = student.report.teacher
    assert teacher is not None
    assert teacher.top1 == pytest.approx(taught.report.student.top1)
    assert teacher.num_params == 2 * taught.report.student.num_params
    measured = evaluate(taught, digits, progress=False, threads=1)
    assert measured.report.student.top1 == pytest.approx(taught.report.student.top1)


def test_arrays_are_a_data_set_and_a_second_call_gives_the_finished_run(here):
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


def test_a_stopped_run_goes_on_to_the_same_bytes(here, digits):
    class After(CancellationToken):
        """Asks for a stop when the second epoch has been validated."""

        def __call__(self, event):
            if event.type == "metrics" and "val/top1" in event.values and event.epoch >= 2:
                self.cancel()

    body = {"student": {"architecture": "cifar/resnet8"}, "dataset": str(digits), "threads": 1}
    body |= {"training": {"epochs": 3, "batch_size": 256}}
    stop = After()
    with pytest.raises(RunCancelledError):
        run_recipe(RunSpec(body, here, here / "stopped"), stop, stop)
    assert not (here / "stopped" / "report.json").exists()
    stopped = distill(body, out="stopped", progress=False)
    whole = distill(body, out="whole", progress=False)
    resumed = [line for line in events(stopped.path) if '"resumed_from_step":' in line]
    assert len(resumed) == 1
    students = [(run.path / model_files.STUDENT_FILE).read_bytes() for run in (stopped, whole)]
    assert students[0] == students[1]
    curves = (stopped.history["val/top1"], whole.history["val/top1"])
    assert curves[0] == curves[1]


def events(folder: Path) -> list[str]:
    return (folder / ".work" / "events.jsonl").read_text().splitlines()


def test_another_recipe_does_not_take_over_a_folder(here, taught, digits):
    with pytest.raises(UserError, match="holds the run of another recipe") as caught:
        distill(
            "cifar/resnet8",
            digits,
            out=taught.path,
            progress=False,
            seed=3,
            threads=1,
            training={"epochs": 3, "batch_size": 64},
        )
    assert [(i.name, i.detail) for i in caught.value.items] == [("seed", "was 0, is 3")]
    assert "seed: was 0, is 3" in str(caught.value).splitlines()


def test_an_earlier_run_can_be_gone_on_from(here, taught, digits):
    start = {"folder": str(taught.path), "checkpoint": "last"}
    settings = {"training": QUICK, "progress": False, "threads": 1}
    settings["training"] = QUICK | {"optimizer": {"type": "sgd", "lr": 1e-6}}
    for checkpoint in ("best", "last"):
        gone_on = distill(
            "cifar/resnet8", digits, **{"from": start | {"checkpoint": checkpoint}}, **settings
        )
        # With such a rate nothing is learned or forgotten.
        assert gone_on.report.student.top1 > taught.report.student.top1 - 15
    with pytest.raises(UserError) as caught:
        distill("cifar/resnet8", digits, **{"from": start | {"checkpoint": "7"}}, **settings)
    assert "no checkpoint '7'" in caught.value.items[0].detail


def test_signals_are_given_back_and_left_alone_in_threads():
    before = signal.getsignal(signal.SIGINT)
    stop = CancellationToken()
    with stop.handle_signals():
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)
        assert stop.requested
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    seen = []

    def in_a_thread():
        with CancellationToken().handle_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert seen == [before]
