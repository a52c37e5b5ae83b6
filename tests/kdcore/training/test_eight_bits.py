"""Teachers in eight bits: compared with the exact ones, and only then in their place."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kdcore.data.dataset import load_dataset
from kdcore.models.teachers import TeacherEnsemble
from kdcore.runtime.errors import RunCancelledError, UserError
from kdcore.training.compute import quantized_teacher
from kdcore.training.compute.quantized_teacher import (
    QuantizedModel,
    agreement,
    quantize,
    sample_evenly,
)
from tests.kdcore.training.helpers import StopAfter, World, events_of, sha256, train

STUDENT = Path("artifacts/student.safetensors")


def recipe(precision: str, **others: Any) -> dict[str, Any]:
    return {"epochs": 2, "teacher_precision": precision, **others}


def told(workdir: Path) -> Any:
    (report,) = events_of(workdir, "report")
    return report["report"]["details"].get("quantized_teachers")


def logs(workdir: Path) -> str:
    return " ".join(event["message"] for event in events_of(workdir, "log"))


def test_it_answers_like_the_exact_teacher_and_always_the_same(world: World) -> None:
    data = load_dataset(world.dataset)
    teachers = TeacherEnsemble.from_files(world.request().teachers, torch.device("cpu"))
    views = data.images("train")[:100]
    one, again = (quantize(teachers.networks[0], views) for _ in range(2))
    assert isinstance(one.network, QuantizedModel)
    assert isinstance(again.network, QuantizedModel)
    assert one.network.sha256 == again.network.sha256
    images = data.images("test")
    assert agreement(teachers.networks[0], one, images, lambda: None) > 95
    with torch.inference_mode():
        exact, swift = teachers.networks[0](images), one(images)
    assert not torch.equal(exact, swift)
    assert (exact - swift).abs().max() < 0.2 * exact.abs().max()


def test_a_student_learns_from_it_and_resumes_exactly(world: World, tmp_path: Path) -> None:
    request = world.request(training=recipe("int8"))
    whole = train(request, tmp_path / "whole")
    (found,) = told(whole)
    assert set(found) == {"teacher_index", "agreement", "quantized"}
    assert found["quantized"]
    assert 90 < found["agreement"] <= 100
    assert "in eight bits the teacher names the same class" in logs(whole)
    with pytest.raises(RunCancelledError):
        train(request, tmp_path / "halves", StopAfter(12))
    train(request, tmp_path / "halves")
    assert sha256(tmp_path / "halves" / STUDENT) == sha256(whole / STUDENT)
    exact = train(world.request(training=recipe("same")), tmp_path / "exact")
    assert told(exact) is None
    assert sha256(exact / STUDENT) != sha256(whole / STUDENT)


def test_who_is_compared_on_a_part_is_compared_on_all_classes() -> None:
    by_class = torch.arange(7).repeat_interleave(100).view(-1, 1, 1, 1)
    for count in (14, 50, 699):
        chosen = sample_evenly(by_class, count)
        assert len(chosen) == count
        assert set(chosen.flatten().tolist()) == set(range(7))
    assert torch.equal(sample_evenly(by_class, 700), by_class)


def test_nobody_is_quantized_who_is_not_asked(world: World, tmp_path: Path) -> None:
    ran = train(world.request("supervised", training=recipe("int8")), tmp_path / "ran")
    assert told(ran) is None


@pytest.mark.parametrize("least", [0.0, 100.1])
def test_auto_goes_by_the_agreement(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, least: float
) -> None:
    monkeypatch.setattr(quantized_teacher, "MIN_AGREEMENT", least)
    ran = train(world.request(training=recipe("auto")), tmp_path / "auto")
    used = least == 0.0
    assert told(ran)[0]["quantized"] == used
    like = train(world.request(training=recipe("int8" if used else "same")), tmp_path / "like")
    assert sha256(ran / STUDENT) == sha256(like / STUDENT)


def test_kept_answers_are_exact_by_auto_and_other_ones_by_int8(
    world: World, tmp_path: Path
) -> None:
    kept = str(tmp_path / "kept")
    names: dict[str, set[str]] = {}
    for precision in ("same", "auto", "int8"):
        request = world.request(training=recipe(precision, views=1))
        ran = train(request.model_copy(update={"teacher_cache_dir": kept}), tmp_path / precision)
        names[precision] = {event["name"] for event in events_of(ran, "teacher_cache")}
        assert bool(told(ran)) == (precision == "int8")
    assert names["same"] == names["auto"]
    assert not names["same"] & names["int8"]


def test_a_method_that_looks_inside_is_told_of(world: World, tmp_path: Path) -> None:
    ran = train(world.request("attention", training=recipe("int8")), tmp_path / "ran")
    assert "attention looks inside the teacher" in logs(ran)
    assert told(ran) is None


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_what_cannot_be_converted(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    def fail(network: Any, shape: Any) -> Any:
        raise RuntimeError("an operator that nobody knows")

    monkeypatch.setattr("kdcore.export.exported_program.export_program", fail)
    request = world.request(training=recipe(precision), exports=["safetensors"])
    if precision == "int8":
        with pytest.raises(UserError, match="an operator that nobody knows"):
            train(request, tmp_path / "ran")
        return
    assert "an operator that nobody knows" in logs(train(request, tmp_path / "ran"))
