"""A batch that exceeds the device's memory runs again in parts."""

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from kdcore.data import dataset
from kdcore.methods.base import Batch
from kdcore.methods.crd import CRDMethod, MemoryBank
from kdcore.models.teachers import TeacherEnsemble
from kdcore.runtime.errors import OutOfDeviceMemoryError
from kdcore.schema.training_config import TrainingConfig
from kdcore.training.compute.device import prepare_compute_env
from kdcore.training.context import JobContext
from kdcore.training.loop.builder import TrainingExtent, build_student_group
from kdcore.training.loop.student_group import StudentGroup
from tests.kdcore.training.helpers import World, first_phase

BATCH_SIZE = 12


def build_group(world: World, method: str, max_images: int) -> StudentGroup:
    """One student on a device whose memory suffices for a backward pass of so many images."""
    request = world.request(method)
    data = dataset.load_dataset(world.dataset)
    compute_env = prepare_compute_env("cpu", 1, TrainingConfig())
    teachers = TeacherEnsemble.from_files(request.teachers, compute_env.device)
    context = JobContext(request.job, data, teachers, data.info.normalization)
    phase = first_phase(request)
    extent = TrainingExtent(data.targets("train"), 10)
    group = build_student_group(context, phase, teachers, compute_env, extent)

    def run_out_of_memory(gradient: Tensor) -> None:
        if len(gradient) > max_images:
            raise torch.OutOfMemoryError(f"no memory for {len(gradient)} images")

    def watch_backward(_module: nn.Module, _inputs: Any, logits: Tensor) -> None:
        if logits.requires_grad:
            logits.register_hook(run_out_of_memory)

    group.students[0].network.network.register_forward_hook(watch_backward)
    group.train()
    return group


def compute_gradients(world: World, group: StudentGroup) -> list[str]:
    """Compute the gradients of one batch; return the warnings."""
    data = dataset.load_dataset(world.dataset)
    views, target = data.images("train")[:BATCH_SIZE], data.targets("train")[:BATCH_SIZE]
    warnings: list[str] = []
    torch.manual_seed(0)
    group.compute_gradients(views, Batch(target, torch.arange(BATCH_SIZE), 1, 1), warnings.append)
    return warnings


def student_memory(group: StudentGroup) -> MemoryBank:
    method = cast(CRDMethod, group.students[0].objective.methods[0])
    return method.student_memory


def run_complete_and_in_parts(
    world: World, method: str, parts: int
) -> tuple[StudentGroup, StudentGroup]:
    """The same step with enough memory and without, both without batch statistics."""
    complete, split = (
        build_group(world, method, max_images) for max_images in (BATCH_SIZE, BATCH_SIZE // parts)
    )
    for group in (complete, split):
        for module in group.students[0].network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    compute_gradients(world, complete)
    compute_gradients(world, split)
    return complete, split


def test_a_batch_is_halved_until_it_fits_and_warnings_are_logged(world: World) -> None:
    complete, split = (build_group(world, "kd", max_images) for max_images in (BATCH_SIZE, 3))
    assert compute_gradients(world, complete) == []
    assert complete.num_micro_batches == 1
    warnings = compute_gradients(world, split)
    assert split.num_micro_batches == 4
    assert len(warnings) == 2
    assert all("methods that compare samples or keep a memory" in text for text in warnings)


def test_a_memory_is_updated_once_per_batch(world: World) -> None:
    before = student_memory(build_group(world, "crd", BATCH_SIZE)).bank
    complete, split = (
        student_memory(group).bank for group in run_complete_and_in_parts(world, "crd", 4)
    )
    torch.testing.assert_close(split, complete)
    assert torch.equal(complete[BATCH_SIZE:], before[BATCH_SIZE:])
    assert not torch.allclose(complete[:BATCH_SIZE], before[:BATCH_SIZE])


def test_losses_of_single_samples_have_the_same_gradient(world: World) -> None:
    complete, split = (
        group.students[0].parameters for group in run_complete_and_in_parts(world, "kd", 2)
    )
    for parameter, other in zip(complete, split, strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_two_images_that_exceed_memory_end_the_run(world: World) -> None:
    with pytest.raises(OutOfDeviceMemoryError, match="batch of two"):
        compute_gradients(world, build_group(world, "kd", 1))
