"""Weights that a training finds: the share of the gradient, events, checkpoint and report."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from kdcore.data import dataset
from kdcore.methods.base import Batch
from kdcore.models.teachers import TeacherEnsemble
from kdcore.runtime.errors import RunCancelledError
from kdcore.schema.methods import METHODS, AnyMethod
from kdcore.schema.training_config import TrainingConfig
from kdcore.training.compute.device import prepare_compute_env
from kdcore.training.context import JobContext
from kdcore.training.loop.builder import TrainingExtent, build_student_group
from kdcore.training.loop.student_group import StudentGroup
from kdcore.training.loop.weight_search import search_weights
from tests.kdcore.training.helpers import (
    STUDENT,
    CancelAfter,
    World,
    assert_same_networks,
    events_of,
    first_phase,
    log_text,
    metric_values,
    report_of,
    sha256,
    train,
)

STEPS, BATCH_SIZE = 100, 32
AFTER_WARMUP = 11


def auto(*names: str, **fields: Any) -> tuple[AnyMethod, ...]:
    return tuple(
        METHODS[name].model_validate({"type": name, "weight": "auto", **fields}) for name in names
    )


def load_batch(world: World, step: int) -> tuple[Tensor, Batch]:
    data = dataset.load_dataset(world.dataset)
    index = torch.arange(step * BATCH_SIZE, (step + 1) * BATCH_SIZE) % len(data.targets("train"))
    torch.manual_seed(step)
    batch = Batch(data.targets("train")[index], index, 1, step + 1)
    return data.images("train")[index], batch


def searched_group(world: World, *names: str, **job: Any) -> StudentGroup:
    request = world.request(auto(*names), **{"label_weight": "auto", **job})
    data = dataset.load_dataset(world.dataset)
    compute_env = prepare_compute_env("cpu", 1, TrainingConfig())
    teachers = TeacherEnsemble.from_files(request.teachers, compute_env.device)
    context = JobContext(request.job, data, teachers, data.info.normalization)
    extent = TrainingExtent(data.targets("train"), STEPS)
    group = build_student_group(context, first_phase(request), teachers, compute_env, extent)
    before = [student.modules_state() for student in group.students]
    search_weights(group, lambda step: load_batch(world, step), STEPS, pytest.fail)
    for student, state in zip(group.students, before, strict=True):
        for name, tensors in student.modules_state().items():
            assert all(torch.equal(tensor, state[name][key]) for key, tensor in tensors.items())
    return group


def gradient_shares(world: World, group: StudentGroup) -> dict[str, float]:
    """The terms' shares of the gradient at the logits, after the steps on labels."""
    student = group.students[0]
    optimizer = student.build_optimizer()
    group.train()
    for step in range(STEPS // 10):
        views, batch = load_batch(world, step)
        student.zero_grad()
        logits = student.extractor(views).logits
        torch.autograd.backward(torch.nn.functional.cross_entropy(logits, batch.target))
        optimizer.step()
    norms: dict[str, float] = {}
    for step in range(STEPS // 10, STEPS // 10 + 4):
        views, batch = load_batch(world, step)
        (teacher,) = group.live_teachers.for_batch(views, batch)
        outputs = student.extractor(views)
        after_warmup = Batch(batch.target, batch.index, 100, AFTER_WARMUP)
        loss = student.loss(outputs, [teacher], [], after_warmup)
        for name, term in loss.terms.items():
            (gradient,) = torch.autograd.grad(term, outputs.logits, retain_graph=True)
            weight = student.term_weights()[name]
            norms[name] = norms.get(name, 0.0) + weight * float(gradient.norm())
    return {name: norm / sum(norms.values()) for name, norm in norms.items()}


def test_terms_have_their_target_shares(world: World) -> None:
    share = METHODS["kd"].target_share
    shares = gradient_shares(world, searched_group(world, "kd"))
    assert shares == pytest.approx({"cross_entropy": 1 - share, "kd": share}, abs=0.01)


def test_search_is_deterministic_and_reads_features(world: World) -> None:
    names = ("kd", "attention", "rkd", "crd")
    first, second = (searched_group(world, *names) for _ in range(2))
    plan = first.students[0].weight_plan
    assert plan.state_dict() == second.students[0].weight_plan.state_dict()
    assert set(plan.measured) == set(names)
    for name, measured in plan.measured.items():
        # A published weight means that no gradient was measured.
        assert 0 < measured.ratio != METHODS[name].model_validate({"type": name}).published_weight


def test_peers_have_at_most_the_published_weight(world: World) -> None:
    group = searched_group(world, "kd", scheme={"type": "mutual"}, teachers=[], num_teachers=0)
    for student in group.students:
        assert 0 < student.weight_plan.measured["peers/kd"].ratio <= 0.9


def test_weights_are_reported_and_a_resumed_run_does_not_search(
    world: World, tmp_path: Path
) -> None:
    training = {"epochs": 2}
    request = world.request(auto("kd"), training=training, label_weight="auto")
    complete = train(request, tmp_path / "complete")
    weights = report_of(complete)["details"]["weights"]["student"]
    assert set(weights) == {"kd", "cross_entropy"}
    assert f"weights of the student, before they fall: kd {weights['kd']:.4g}" in log_text(complete)
    curve = metric_values(complete, "train/weight/kd")
    assert curve[0] == pytest.approx(weights["kd"])
    assert min(curve) > 0
    stopped = tmp_path / "stopped"
    with pytest.raises(RunCancelledError):
        train(request, stopped, CancelAfter(12))
    assert events_of(stopped, "checkpoint")
    searches = log_text(stopped).count("before they fall")
    train(request, stopped)
    assert log_text(stopped).count("before they fall") == searches == 1
    assert sha256(stopped / STUDENT) == sha256(complete / STUDENT)
    assert_same_networks(stopped, complete)
    assert report_of(stopped)["details"]["weights"] == report_of(complete)["details"]["weights"]


def test_published_is_the_number_of_the_paper(world: World, tmp_path: Path) -> None:
    training = {"epochs": 1}
    words = tuple(
        METHODS[name].model_validate({"type": name, "weight": "published", "form": "paper"})
        for name in ("attention",)
    )
    numbers = tuple(method.model_copy(update={"weight": 2.0}) for method in words)
    by_word = train(world.request(words, training=training), tmp_path / "word")
    by_number = train(world.request(numbers, training=training), tmp_path / "number")
    assert sha256(by_word / STUDENT) == sha256(by_number / STUDENT)
    assert "weights" not in report_of(by_word)["details"]


def test_stages_have_the_weights_of_their_terms(world: World, tmp_path: Path) -> None:
    request = world.request(auto("fitnet"), training={"epochs": 2}, label_weight="auto")
    workdir = train(request, tmp_path)
    start = report_of(workdir)["details"]["weights"]["student"]["fitnet_hint"]
    assert metric_values(workdir, "train/weight/fitnet_kd")[-1] == 0.9
    assert metric_values(workdir, "train/weight/cross_entropy")[-1] == 1
    assert metric_values(workdir, "train/weight/fitnet_hint")[-1] == pytest.approx(start)
