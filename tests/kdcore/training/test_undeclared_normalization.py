"""A network without its normalization is measured with the usual ones, and none is applied."""

from pathlib import Path

import pytest
import torch

from kdcore.evaluation.normalization_check import (
    NormalizationTrial,
    describe_candidates,
    find_wrong_normalization,
)
from kdcore.evaluation.plausibility import ChanceTest
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
SHIFTED = Normalization(mean=(0.65,), std=(0.5,))
"""Better than chance, and clearly worse than the data set's normalization."""


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
    assert f"declare the normalization mean [{mean}], std [{std}]" in caught.value.hint
    assert "upload" not in caught.value.hint


def test_the_default_that_fits_best_is_in_the_report(world: World, tmp_path: Path) -> None:
    request = without_normalization(world.request("kd", 1, ONE_EPOCH), world.info.normalization)
    workdir = train(request, tmp_path / "run")
    (warning,) = report_of(workdir)["warnings"]
    assert "; no other usual normalization is clearly better (ImageNet's " in warning
    assert warning in log_text(workdir)
    declared = train(world.request("kd", 1, ONE_EPOCH), tmp_path / "declared")
    assert report_of(declared)["warnings"] == []
    assert report_of(declared)["student"]["top1"] == report_of(workdir)["student"]["top1"]


def test_a_clearly_better_normalization_is_the_first_finding(world: World, tmp_path: Path) -> None:
    request = without_normalization(world.request("kd", 1, ONE_EPOCH), SHIFTED)
    workdir = train(request, tmp_path)
    report = report_of(workdir)
    first, *_ = report["verdict"]["findings"]
    assert first["code"] == "wrong_normalization"
    mean, std = world.info.normalization.mean[0], world.info.normalization.std[0]
    used = f"the architecture's default (mean {list(SHIFTED.mean)}, std {list(SHIFTED.std)})"
    assert used in first["message"]
    assert f"(mean [{round(mean, 6)}], std [{round(std, 6)}])" in first["message"]
    assert f"declare the normalization mean [{round(mean, 6)}]" in first["hint"]
    card = (workdir / "artifacts" / "model_card.md").read_text()
    assert f"**Warning**: {first['message']}" in card
    # It is logged before the training, and the report's warnings do not repeat it.
    assert log_text(workdir).index(first["message"]) >= 0
    assert report["warnings"] == []


def trial(name: str, num_hits: int, total: int = 200) -> NormalizationTrial:
    """A trial on ten equal classes, whose first images are right."""
    hits = torch.arange(total) < num_hits
    return NormalizationTrial(name, WRONG, hits, ChanceTest(num_hits, total, total // 10))


@pytest.mark.parametrize(
    ("current", "other", "text"),
    [
        # One image of 200, at chance.
        (19, 20, ", and no usual normalization is better than chance (b 10.0 %)"),
        # Three images of 200 are no reason to change anything.
        (180, 183, "; no other usual normalization is clearly better (b 91.5 %)"),
        (59, 192, ". The normalization that fits best is b, with 96.0 %, 66.5 points more"),
    ],
)
def test_a_normalization_is_recommended_only_beyond_chance(
    current: int, other: int, text: str
) -> None:
    trials = [trial("a", current), trial("b", other)]
    sentence = describe_candidates("teacher t", trials)
    assert text in sentence
    finding = find_wrong_normalization("teacher t", trials)
    assert (finding is not None) == ("declare the" in sentence) == ("fits best" in text)
    if finding is not None:
        assert "29.5 % of 200 images" in finding.message
        assert "96.0 % with b" in finding.message


def test_a_refused_teacher_of_an_assumed_input_size_names_both_sizes(
    world: World, tmp_path: Path
) -> None:
    request = without_normalization(world.request("kd", 1, ONE_EPOCH), WRONG)
    request = with_teacher(request, input_size=24, input_size_declared=False)
    with pytest.raises(UserError, match="no better than chance") as caught:
        train(request, tmp_path)
    hint = caught.value.hint or ""
    assert "input_size of the teacher" in hint
    assert "was not given; 24 is assumed, the data set's images have 8" in hint
    assert "At 8 pixels " in hint
    assert "declare input_size 8 and this normalization" in hint
    assert "was not given; 24 is assumed" in log_text(tmp_path), "also before the refusal"


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
    declared = {
        "class_names": CLASSES,
        "normalization_declared": False,
        "input_size_declared": False,
        "reported_top1": 90.0,
        "outputs": {"features": (64,)},
    }
    assert set(declared) == DESCRIPTIVE_FIELDS
    changed = with_teacher(request, **declared)
    assert compute_job_digest(changed) == compute_job_digest(request)
    ensembles = (
        TeacherEnsemble.from_files(r.teachers, torch.device("cpu")) for r in (request, changed)
    )
    (identity,), (changed_identity,) = ([m.identity for m in e.members] for e in ensembles)
    assert identity is not None
    assert identity == changed_identity
