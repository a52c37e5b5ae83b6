"""Int8 teachers are compared with the exact ones before they replace them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from kdcore.data.dataset import load_dataset
from kdcore.models.teachers import TeacherEnsemble
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import RunCancelledError, UserError
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.job import JobLimits
from kdcore.training.checkpoint import Checkpoints
from kdcore.training.compute.device import prepare_compute_env
from kdcore.training.compute.int8_teacher import (
    MIN_AGREEMENT,
    QuantizedModel,
    agreement,
    quantize,
    sample_evenly,
)
from kdcore.training.inputs import load_inputs
from kdcore.training.phase_teachers import convert_teachers
from kdcore.training.run_state import RunState, TimeBudget
from tests.kdcore.training.helpers import (
    STUDENT,
    CancelAfter,
    World,
    events_of,
    first_phase,
    log_text,
    report_of,
    sha256,
    train,
    with_fields,
)


def training_with(teacher_precision: str, **fields: Any) -> dict[str, Any]:
    return {"epochs": 2, "teacher_precision": teacher_precision, **fields}


def trials(workdir: Path) -> Any:
    """The quantized teachers in the report's details; None if no teacher was quantized."""
    return report_of(workdir)["details"].get("quantized_teachers")


def test_quantization_is_accurate_and_reproducible(world: World) -> None:
    data = load_dataset(world.dataset)
    teachers = TeacherEnsemble.from_files(world.request().teachers, torch.device("cpu"))
    views = data.images("train")[:100]
    first, second = (quantize(teachers.networks[0], views) for _ in range(2))
    assert isinstance(first.network, QuantizedModel)
    assert isinstance(second.network, QuantizedModel)
    assert first.network.sha256 == second.network.sha256
    images = data.images("test")
    assert agreement(teachers.networks[0], first, images, lambda: None) > 95
    with torch.inference_mode():
        exact, quantized = teachers.networks[0](images), first(images)
    assert not torch.equal(exact, quantized)
    assert (exact - quantized).abs().max() < 0.2 * exact.abs().max()


def test_a_student_of_an_int8_teacher_resumes_exactly(world: World, tmp_path: Path) -> None:
    request = world.request(training=training_with("int8"))
    complete = train(request, tmp_path / "complete")
    (trial,) = trials(complete)
    assert set(trial) == {"teacher_index", "agreement", "quantized"}
    assert trial["quantized"]
    assert 90 < trial["agreement"] <= 100
    assert "the int8 teacher predicts the same class" in log_text(complete)
    with pytest.raises(RunCancelledError):
        train(request, tmp_path / "resumed", CancelAfter(12))
    train(request, tmp_path / "resumed")
    assert sha256(tmp_path / "resumed" / STUDENT) == sha256(complete / STUDENT)
    exact = train(world.request(training=training_with("same")), tmp_path / "exact")
    assert trials(exact) is None
    assert sha256(exact / STUDENT) != sha256(complete / STUDENT)


def test_sampled_images_cover_all_classes() -> None:
    by_class = torch.arange(7).repeat_interleave(100).view(-1, 1, 1, 1)
    for count in (14, 50, 699):
        sample = sample_evenly(by_class, count)
        assert len(sample) == count
        assert set(sample.flatten().tolist()) == set(range(7))
    assert torch.equal(sample_evenly(by_class, 700), by_class)


def test_unused_teachers_are_not_quantized(world: World, tmp_path: Path) -> None:
    workdir = train(world.request("supervised", training=training_with("int8")), tmp_path / "run")
    assert trials(workdir) is None


def convert(request: RunRequest, workdir: Path, min_agreement: float) -> tuple[RunState, Any]:
    """Convert the teacher of the request's first phase; return its network, too."""
    workdir.mkdir()
    events = EventWriter(workdir / "events.jsonl", workdir)
    run_state = RunState(
        compute_env=prepare_compute_env("cpu", 1, request.job.training),
        events=events,
        cancellation=CancellationToken(),
        time_budget=TimeBudget(JobLimits(), 0.0),
        checkpoints=Checkpoints(workdir, events),
        job_digest="",
        max_phases=1,
    )
    context = load_inputs(request, run_state, workdir, log_top1=False)
    phase = first_phase(request)
    teachers = convert_teachers(run_state, context, phase, context.teachers, min_agreement)
    events.close()
    return run_state, teachers.networks[0]


@pytest.mark.parametrize("min_agreement", [0.0, 100.1])
def test_auto_decides_by_agreement(world: World, tmp_path: Path, min_agreement: float) -> None:
    request = world.request(training=training_with("auto", precision="float32"))
    run_state, teacher = convert(request, tmp_path / "auto", min_agreement)
    used = min_agreement == 0.0
    (trial,) = run_state.quantized_teachers
    assert trial["quantized"] == used
    precision = "int8" if used else "same"
    reference_request = world.request(training=training_with(precision, precision="float32"))
    _, reference = convert(reference_request, tmp_path / precision, MIN_AGREEMENT)
    images = load_dataset(world.dataset).images("test")
    with torch.inference_mode():
        assert torch.equal(teacher(images), reference(images))


def test_auto_trains_the_student_of_the_teacher_that_it_reports(
    world: World, tmp_path: Path
) -> None:
    auto = train(world.request(training=training_with("auto")), tmp_path / "auto")
    (trial,) = trials(auto)
    assert trial["quantized"] == (trial["agreement"] >= MIN_AGREEMENT)
    precision = "int8" if trial["quantized"] else "same"
    reference = train(world.request(training=training_with(precision)), tmp_path / precision)
    assert sha256(auto / STUDENT) == sha256(reference / STUDENT)


def test_the_teacher_cache_is_exact_with_auto_and_int8_with_int8(
    world: World, tmp_path: Path
) -> None:
    names: dict[str, set[str]] = {}
    for precision in ("same", "auto", "int8"):
        request = world.request(training=training_with(precision, views=1))
        request = with_fields(request, teacher_cache_dir=str(tmp_path / "cache"))
        workdir = train(request, tmp_path / precision)
        names[precision] = {event["name"] for event in events_of(workdir, "teacher_cache")}
        assert bool(trials(workdir)) == (precision == "int8")
    assert names["same"] == names["auto"]
    assert not names["same"] & names["int8"]


def test_a_method_that_needs_features_is_logged(world: World, tmp_path: Path) -> None:
    workdir = train(world.request("attention", training=training_with("int8")), tmp_path / "run")
    assert "attention needs features" in log_text(workdir)
    assert trials(workdir) is None


@pytest.mark.parametrize("precision", ["auto", "int8"])
def test_a_teacher_that_cannot_be_quantized_fails_only_int8_jobs(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    def fail(_network: Any, _shape: Any) -> Any:
        raise RuntimeError("an unknown operator")

    monkeypatch.setattr("kdcore.export.exported_program.export_program", fail)
    request = world.request(training=training_with(precision), exports=["safetensors"])
    if precision == "int8":
        with pytest.raises(UserError, match="an unknown operator"):
            train(request, tmp_path / "run")
    else:
        assert "an unknown operator" in log_text(train(request, tmp_path / "run"))
