"""A batch that the device has no room for comes again in parts."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdcore.data import dataset
from kdcore.methods.base import Batch
from kdcore.methods.crd import CRDMethod, MemoryBank
from kdcore.models.teachers import TeacherEnsemble
from kdcore.runtime.errors import OutOfDeviceMemoryError
from kdcore.schema.training import TrainingConfig
from kdcore.schemes import planner
from kdcore.training.compute.device import prepare_compute_env
from kdcore.training.context import JobContext
from kdcore.training.loop.builder import build_student_group
from kdcore.training.loop.student_group import StudentGroup
from tests.kdcore.training.helpers import World

SIZE = 12


def cohort_of(world: World, method: str, room: int) -> StudentGroup:
    """One learner on a device whose backward pass has room for so many images."""
    request = world.request(method)
    data = dataset.load_dataset(world.dataset)
    machine = prepare_compute_env("cpu", 1, TrainingConfig())
    teachers = TeacherEnsemble.from_files(request.teachers, machine.device)
    task = JobContext(request.job, data, teachers, data.info.normalization)
    phase = planner.next_phase(request.job, [])
    assert phase is not None
    cohort = build_student_group(task, phase, teachers, machine, (data.targets("train"), 10))

    def full(gradient: Tensor) -> None:
        if len(gradient) > room:
            raise torch.OutOfMemoryError(f"no room for {len(gradient)} images")

    def watched(_module: nn.Module, _inputs: Any, logits: Tensor) -> None:
        if logits.requires_grad:
            logits.register_hook(full)

    cohort.students[0].network.network.register_forward_hook(watched)
    cohort.train()
    return cohort


def step(world: World, cohort: StudentGroup) -> list[str]:
    """The gradients of one batch, and what was said on the way to them."""
    data = dataset.load_dataset(world.dataset)
    views, target = data.images("train")[:SIZE], data.targets("train")[:SIZE]
    said: list[str] = []
    torch.manual_seed(0)
    cohort.compute_gradients(views, Batch(target, torch.arange(SIZE), 1, 1), said.append)
    return said


def memory_of(cohort: StudentGroup) -> MemoryBank:
    method = cohort.students[0].objective.methods[0]
    assert isinstance(method, CRDMethod)
    return method.student_memory


def whole_and_parts(world: World, method: str, parts: int) -> tuple[StudentGroup, StudentGroup]:
    """The same step where the batch fits and where it does not, without batch statistics."""
    whole, halved = (cohort_of(world, method, room) for room in (SIZE, SIZE // parts))
    for cohort in (whole, halved):
        for module in cohort.students[0].network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    assert step(world, whole) == []
    said = step(world, halved)
    assert halved.num_micro_batches == parts
    assert all("methods that compare its samples or keep a memory" in each for each in said)
    return whole, halved


def test_a_memory_is_renewed_once_however_often_a_batch_comes(world: World) -> None:
    before = memory_of(cohort_of(world, "crd", SIZE)).bank
    whole, parts = (memory_of(each).bank for each in whole_and_parts(world, "crd", 4))
    torch.testing.assert_close(parts, whole)
    assert torch.equal(whole[SIZE:], before[SIZE:])
    assert not torch.allclose(whole[:SIZE], before[:SIZE])


def test_what_counts_each_sample_by_itself_has_the_same_gradient(world: World) -> None:
    whole, parts = (each.students[0].parameters for each in whole_and_parts(world, "kd", 2))
    for ours, theirs in zip(whole, parts, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)


def test_two_images_that_do_not_fit_end_the_run(world: World) -> None:
    with pytest.raises(OutOfDeviceMemoryError, match="two images"):
        step(world, cohort_of(world, "kd", 1))
