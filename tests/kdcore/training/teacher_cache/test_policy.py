"""why_not names the reason why teacher outputs cannot be cached."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kdcore.data import dataset
from kdcore.models.teachers import FrozenTeacher, TeacherEnsemble
from kdcore.runtime.errors import UserError
from kdcore.training.context import JobContext
from kdcore.training.teacher_cache.policy import why_not
from tests.kdcore.training.helpers import (
    World,
    events_of,
    first_phase,
    log_text,
    train,
    with_fields,
)


def reason(world: World, method: str, cache_folder: Path | None, **training: Any) -> str | None:
    """Why the outputs for the first phase of a job cannot be cached."""
    request = world.request(method, training=training)
    data = dataset.load_dataset(world.dataset)
    teachers = TeacherEnsemble.from_files(request.teachers, torch.device("cpu"))
    context = JobContext(
        request.job, data, teachers, data.info.normalization, cache_folder=cache_folder
    )
    phase = first_phase(request)
    used = teachers if phase.uses_teacher else TeacherEnsemble(())
    return why_not(context, phase, used)


def test_recurring_views_of_a_logit_method_can_be_cached(world: World, tmp_path: Path) -> None:
    assert reason(world, "kd", tmp_path, views=2) is None
    assert reason(world, "crd", tmp_path, views=2) is None


def test_every_obstacle_has_its_reason(world: World, tmp_path: Path) -> None:
    obstacles = {
        "no folder": reason(world, "kd", None, views=2),
        "views is fresh": reason(world, "kd", tmp_path),
        "no method of this phase uses a teacher": reason(world, "supervised", tmp_path, views=2),
        "feature maps": reason(world, "attention", tmp_path, views=2),
    }
    assert all(text in (message or "") for text, message in obstacles.items()), obstacles


def test_a_teacher_of_the_same_run_cannot_be_cached(world: World, tmp_path: Path) -> None:
    request = world.request(training={"views": 2})
    data = dataset.load_dataset(world.dataset)
    member = TeacherEnsemble.from_files(request.teachers, torch.device("cpu")).members[0]
    assert isinstance(member, FrozenTeacher)
    teachers = TeacherEnsemble([replace(member, identity=None)])
    normalization = data.info.normalization
    context = JobContext(request.job, data, teachers, normalization, cache_folder=tmp_path)
    phase = first_phase(request)
    assert "trained in this run" in (why_not(context, phase, teachers) or "")


def test_the_reason_is_logged_if_views_recur(world: World, tmp_path: Path) -> None:
    workdir = train(world.request("attention", training={"epochs": 1, "views": 1}), tmp_path / "a")
    assert "are not cached: a method needs feature maps" in log_text(workdir)
    workdir = train(world.request("attention", training={"epochs": 1}), tmp_path / "b")
    assert "not cached" not in log_text(workdir)


def test_filling_the_cache_trains_nothing(world: World, tmp_path: Path) -> None:
    request = world.request(training={"epochs": 3, "views": 2})
    fields = {"fill_cache_only": True, "teacher_cache_dir": str(tmp_path / "cache")}
    workdir = train(with_fields(request, **fields), tmp_path / "fill")
    assert [event["view"] for event in events_of(workdir, "teacher_cache")] == [1, 2]
    assert not events_of(workdir, "checkpoint")
    second = train(with_fields(request, **fields), tmp_path / "second")
    assert all(event["hit"] for event in events_of(second, "teacher_cache"))


def test_filling_a_cache_that_cannot_be_is_an_error_with_the_reason(
    world: World, tmp_path: Path
) -> None:
    request = with_fields(world.request("attention", training={"views": 2}), fill_cache_only=True)
    with pytest.raises(UserError, match="feature maps") as caught:
        train(request, tmp_path)
    assert caught.value.code == "job_invalid"
