"""Classes in another order are mapped by name; without names the order is measured."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kdcore.protocol.requests import ModelFile, RunRequest
from kdcore.runtime.errors import UserError
from kdcore.training.job_digest import compute_job_digest
from tests.kdcore.training.helpers import (
    CLASSES,
    STUDENT,
    World,
    log_text,
    report_of,
    sha256,
    train,
    with_fields,
    with_teacher,
)

ORDER = (0, 1, 3, 2, 4, 6, 5)
"""The model's class for each class of the data set."""
NAMES = tuple(CLASSES[index] for index in ORDER)
"""A permutation of two swaps is its own inverse."""
ONE_EPOCH = {"epochs": 1}
FROZEN = {"epochs": 1, "optimizer": {"type": "sgd", "lr": 1e-12, "weight_decay": 0}}


@pytest.fixture
def reordered_model(world: World, tmp_path: Path) -> ModelFile:
    """The world's teacher with its classes in the order of ``NAMES``."""
    state = load_file(world.teacher)
    for name in ("fc.weight", "fc.bias"):
        state[name] = state[name][list(ORDER)].contiguous()
    path = tmp_path / "reordered.safetensors"
    save_file(state, path)
    return world.model(path, class_names=NAMES)


def evaluation(world: World, model: ModelFile, class_map: Any = None) -> RunRequest:
    student = {"architecture": model.architecture, "class_map": class_map}
    job = {"kind": "evaluate", "model": "mdl_1", "student": student}
    return with_fields(world.request("supervised", 0, ONE_EPOCH, **job), init=model)


def test_an_evaluation_maps_the_classes(
    world: World, reordered_model: ModelFile, tmp_path: Path
) -> None:
    workdir = train(evaluation(world, reordered_model, ORDER), tmp_path / "mapped")
    plain = train(evaluation(world, world.model(world.teacher)), tmp_path / "plain")
    report = report_of(workdir)
    assert report["student"]["per_class_top1"] == report_of(plain)["student"]["per_class_top1"]
    assert sha256(workdir / STUDENT) == sha256(world.teacher), "in the data set's order"
    assert (report["warnings"], report["likely_class_order"]) == ([], None)


def test_a_student_starts_from_weights_in_another_order(
    world: World, reordered_model: ModelFile, tmp_path: Path
) -> None:
    student = {"architecture": reordered_model.architecture, "init": "mdl_1", "class_map": ORDER}
    request = with_fields(
        world.request("supervised", 0, FROZEN, student=student), init=reordered_model
    )
    weights = load_file(train(request, tmp_path / "run") / STUDENT)
    torch.testing.assert_close(weights["fc.weight"], load_file(world.teacher)["fc.weight"])


def test_an_evaluated_model_without_names_gets_a_likely_order(
    world: World, reordered_model: ModelFile, tmp_path: Path
) -> None:
    nameless = reordered_model.model_copy(update={"class_names": None})
    report = report_of(train(evaluation(world, nameless), tmp_path / "run"))
    assert report["likely_class_order"] == list(ORDER)
    (warning,) = report["warnings"]
    assert "the model's classes are probably in another order" in warning


def with_model(request: RunRequest, model: ModelFile, **fields: Any) -> RunRequest:
    return with_teacher(request, path=model.path, sha256=model.sha256, **fields)


def test_a_teacher_without_names_in_another_order_is_refused(
    world: World, reordered_model: ModelFile, tmp_path: Path
) -> None:
    request = with_model(world.request("kd", 1, ONE_EPOCH), reordered_model)
    with pytest.raises(UserError, match="another order") as caught:
        train(request, tmp_path / "refused")
    assert caught.value.fix is not None
    (patch,) = caught.value.fix
    assert (patch["path"], patch["value"]) == ("/teachers/0/class_map", list(ORDER))
    mapped = with_model(request, reordered_model, class_map=tuple(patch["value"]))
    report = report_of(train(mapped, tmp_path / "mapped"))
    plain = report_of(train(world.request("kd", 1, ONE_EPOCH), tmp_path / "plain"))
    assert report["teacher"]["top1"] == plain["teacher"]["top1"]
    assert report["student"]["top1"] == plain["student"]["top1"]


def test_other_names_are_a_warning_in_the_report(world: World, tmp_path: Path) -> None:
    names = ("ant", *CLASSES[1:])
    request = with_teacher(world.request("kd", 1, ONE_EPOCH), class_names=names)
    workdir = train(request, tmp_path)
    (warning,) = report_of(workdir)["warnings"]
    assert "the teacher has no class named a: these classes are matched by their order" in warning
    assert warning in log_text(workdir)


def test_class_names_leave_the_digest_of_stored_jobs_unchanged(world: World) -> None:
    request = world.request()
    named = with_teacher(request, class_names=CLASSES)
    assert compute_job_digest(named) == compute_job_digest(request)
