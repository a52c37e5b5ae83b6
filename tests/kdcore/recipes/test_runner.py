"""A recipe's run: resumed, restarted, continued from another run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from kdcore import distill
from kdcore.recipes.runner import RunSpec, run_recipe
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import RunCancelledError, UserError
from kdcore.schema.old_spelling import old_spelling
from tests.kdcore.recipe_runs import QUICK_TRAINING, CancelAfterEpoch, digits_recipe, ignore_event

FROZEN_TRAINING = QUICK_TRAINING | {"optimizer": {"type": "sgd", "lr": 1e-9, "weight_decay": 0}}
REQUIRED_FILES = {
    "student.safetensors",
    "config.json",
    "report.json",
    "model_card.json",
    "model_card.md",
}


def run_until_epoch(recipe, out, epoch):
    """Cancel a run after ``epoch`` and return the path of its newest checkpoint."""
    cancel = CancelAfterEpoch(epoch)
    with pytest.raises(RunCancelledError):
        run_recipe(RunSpec(recipe, Path.cwd(), out), cancel, cancel)
    return max((out / ".work" / "checkpoints").glob("step-*.pt"))


def visible_files(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_fresh_run_removes_the_exports_of_the_earlier_one(current_folder, digits_store):
    exported = ["exported_program"]
    recipe = digits_recipe(digits_store, training=QUICK_TRAINING, exports=exported)
    out = current_folder / "run"
    run_recipe(RunSpec(recipe, current_folder, out), ignore_event, CancellationToken())
    (out / "notes.txt").write_text("mine")
    assert visible_files(out) == {*REQUIRED_FILES, "student.pt2", "notes.txt"}
    other = recipe | {"student": {"architecture": "cifar/resnet14"}, "exports": ["safetensors"]}
    run_spec = RunSpec(other, current_folder, out, fresh=True)
    run_recipe(run_spec, ignore_event, CancellationToken())
    assert visible_files(out) == {*REQUIRED_FILES, "notes.txt"}
    assert "cifar/resnet14" in (out / "config.json").read_text()


def test_run_continued_from_an_unfinished_run_resumes_after_that_run_advanced(
    current_folder, digits_store
):
    three_epochs = QUICK_TRAINING | {"epochs": 3}
    first = digits_recipe(digits_store, training=three_epochs)
    early_checkpoint = run_until_epoch(first, current_folder / "first", 1)
    second = first | {"seed": 1, "from": {"folder": "first", "checkpoint": "last"}}
    run_until_epoch(second, current_folder / "second", 1)
    distill(first, out="first", progress=False)
    early_checkpoint.unlink(missing_ok=True)
    early_checkpoint.with_suffix(".json").unlink(missing_ok=True)

    result = distill(second, out="second", progress=False)
    assert '"resumed_from_step":' in (result.path / ".work" / "events.jsonl").read_text()

    def request_digest():
        request = json.loads((current_folder / "second" / ".work" / "request.json").read_text())
        return request["digest"]

    before = request_digest()
    run_spec = RunSpec(second, current_folder, current_folder / "second", fresh=True)
    run_recipe(run_spec, ignore_event, CancellationToken())
    assert request_digest() != before, "a fresh run starts from the newest checkpoint"


def test_run_continues_from_a_numbered_step(current_folder, digits_store):
    recipe = digits_recipe(digits_store)
    two_epochs = recipe | {"training": QUICK_TRAINING | {"epochs": 2}}
    path = run_until_epoch(two_epochs, current_folder / "first", 1)
    checkpoint = torch.load(path, weights_only=True)
    start = {"folder": "first", "checkpoint": str(checkpoint["step"])}
    continued = distill(recipe, training=FROZEN_TRAINING, progress=False, **{"from": start})
    initial = checkpoint["current"]["student_group"]["students"][0]["network"]
    weights = load_file(continued.path / "student.safetensors")
    assert torch.allclose(weights["conv1.weight"], initial["conv1.weight"], atol=1e-6)
    written = (continued.path / "student.safetensors").stat().st_mtime_ns
    again = distill(recipe, training=FROZEN_TRAINING, progress=False, from_=start)
    assert again.path == continued.path, "`from` and `from_` are the same field"
    assert (again.path / "student.safetensors").stat().st_mtime_ns == written


def test_determinism_and_threads_of_a_run_end_with_it(current_folder, digits_store):
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    seen = {}
    for determinism in ("strict", "fast"):
        recipe = digits_recipe(digits_store, training=QUICK_TRAINING | {"determinism": determinism})
        recipe |= {"threads": before[1] + 1}

        def record_settings(event, determinism=determinism):
            if event.type == "metrics":
                now = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
                seen.setdefault(determinism, set()).add(now)

        run_spec = RunSpec(recipe, current_folder, current_folder / determinism)
        run_recipe(run_spec, record_settings, CancellationToken())
        assert (torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()) == before
    assert seen == {"strict": {(True, before[1] + 1)}, "fast": {(False, before[1] + 1)}}


def rewrite_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def make_folder_old(out):
    """Give the folder of a finished run the names and fields that version 0.0 wrote."""

    def make_request_old(request):
        job = request["job"]
        job |= {"dataset": "ds_1", "teachers": [{"model": "mdl_1"}], "model": None, "from": None}
        job["training"]["kept_logits"] = job["training"].pop("teacher_cache_logits")

    def make_report_old(report):
        report[old_spelling("normalization")] = report.pop("normalization")
        report["seeds"]["helped_by"] = report["seeds"].pop("top1_gain")

    def make_fingerprint_old(fingerprint):
        fingerprint["asked"] = fingerprint.pop("dataset")

    rewrite_json(out / ".work" / "request.json", make_request_old)
    rewrite_json(out / "report.json", make_report_old)
    rewrite_json(out / ".work" / "data" / "made-of.json", make_fingerprint_old)


def test_folder_that_an_old_version_finished_is_returned(current_folder):
    recipe = digits_recipe("builtin:digits", training=QUICK_TRAINING)
    first = distill(recipe, out="run", progress=False)
    make_folder_old(first.path)
    paths = [path for path in first.path.rglob("*") if path.is_file() and path.name != "lock"]
    written = {path: path.stat().st_mtime_ns for path in paths}
    again = distill(recipe, out="run", progress=False)
    assert again.report == first.report
    assert {path: path.stat().st_mtime_ns for path in written} == written
    with pytest.raises(UserError, match="holds the run of another recipe") as caught:
        distill(recipe, out="run", progress=False, seed=3)
    assert [item.name for item in caught.value.items] == ["seed"]
    renamed = distill(recipe, out="run", progress=False, name="another name")
    assert json.loads((renamed.path / "model_card.json").read_text())["name"] == "another name"
