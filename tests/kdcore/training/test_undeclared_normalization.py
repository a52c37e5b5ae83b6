"""A network without its normalization is measured with the usual ones, and none is applied."""

from pathlib import Path

import pytest
import torch

from kdcore.models.teachers import TeacherEnsemble
from kdcore.protocol.requests import DESCRIPTIVE_FIELDS, RunRequest
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import Normalization
from kdcore.training.job_digest import compute_job_digest
from tests.kdcore.training.helpers import (
    CLASSES,
    World,
    log_text,
    report_of,
    train,
    with_fields,
    with_teacher,
)

ONE_EPOCH = {"epochs": 1}
WRONG = Normalization(mean=(0.95,), std=(0.02,))


def without_normalization(request: RunRequest, normalization: Normalization) -> RunRequest:
    return with_teacher(request, normalization=normalization, normalization_declared=False)


def test_a_refused_teacher_has_the_normalization_that_fits(world: World, tmp_path: Path) -> None:
    request = without_normalization(world.request("kd", 1, ONE_EPOCH), WRONG)
    with pytest.raises(UserError, match="no better than chance") as caught:
        train(request, tmp_path)
    assert caught.value.hint is not None
    assert "the architecture's default is used (mean [0.95], std [0.02])" in caught.value.hint
    mean, std = world.info.normalization.mean[0], world.info.normalization.std[0]
    assert "The normalization that fits best is the data set's, with " in caught.value.hint
    assert f"upload the model with mean [{mean}], std [{std}]" in caught.value.hint


def test_the_default_that_fits_best_is_in_the_report(world: World, tmp_path: Path) -> None:
    request = without_normalization(world.request("kd", 1, ONE_EPOCH), world.info.normalization)
    workdir = train(request, tmp_path / "run")
    (warning,) = report_of(workdir)["warnings"]
    assert "the most of the usual normalizations (ImageNet's " in warning
    assert warning in log_text(workdir)
    declared = train(world.request("kd", 1, ONE_EPOCH), tmp_path / "declared")
    assert report_of(declared)["warnings"] == []
    assert report_of(declared)["student"]["top1"] == report_of(workdir)["student"]["top1"]


def test_an_evaluated_model_has_the_warning_too(world: World, tmp_path: Path) -> None:
    model = world.model(world.teacher).model_copy(
        update={"normalization": WRONG, "normalization_declared": False}
    )
    request = world.request("supervised", 0, ONE_EPOCH, kind="evaluate", model="mdl_1")
    report = report_of(train(with_fields(request, init=model), tmp_path))
    assert "fits best is the data set's" in report["warnings"][0]
    assert report["normalization"] == {"mean": [0.95], "std": [0.02]}, "nothing is applied"


def test_what_models_declare_leaves_digests_and_cache_keys_unchanged(world: World) -> None:
    request = world.request()
    declared = {"class_names": CLASSES, "normalization_declared": False, "reported_top1": 90.0}
    assert set(declared) == DESCRIPTIVE_FIELDS
    changed = with_teacher(request, **declared)
    assert compute_job_digest(changed) == compute_job_digest(request)
    ensembles = (
        TeacherEnsemble.from_files(r.teachers, torch.device("cpu")) for r in (request, changed)
    )
    (identity,), (changed_identity,) = ([m.identity for m in e.members] for e in ensembles)
    assert identity is not None
    assert identity == changed_identity
