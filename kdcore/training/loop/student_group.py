"""All that learn in one phase, and their teachers: gradients of one batch, one update each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.methods.base import Batch, MixedLabels
from kdcore.methods.common.objective import Loss
from kdcore.runtime.errors import OutOfDeviceMemoryError
from kdcore.training.checkpoint import StateDict
from kdcore.training.compute.device import ComputeEnv
from kdcore.training.loop.features import detach_outputs
from kdcore.training.loop.student_trainer import TrainableStudent
from kdcore.training.teacher_cache.provider import TeacherOutputs


class StudentLosses(NamedTuple):
    """One learner's losses of one batch."""

    names: tuple[str, ...]
    values: Tensor
    """(1 + terms,): the total first."""


class StudentGroup:
    """Learners on one device; one of them, except where a scheme lets several teach each other."""

    def __init__(
        self,
        students: Sequence[TrainableStudent],
        teacher_outputs: TeacherOutputs,
        compute_env: ComputeEnv,
    ) -> None:
        self.students = tuple(students)
        self.teacher_outputs = teacher_outputs
        self._compute_env = compute_env
        self.num_micro_batches = 1

    def losses(self, views: Tensor, batch: Batch) -> list[Loss]:
        """Each learner's, of ``views`` (B, C, H, W) that everyone sees, from one pass of each."""
        views = views.contiguous(memory_format=torch.channels_last)
        autocast = self._compute_env.autocast()
        teacher_outputs = self.teacher_outputs.for_batch(views, batch)
        with autocast:
            outputs = [student.extractor(views) for student in self.students]
        detached_outputs = (
            [detach_outputs(output) for output in outputs] if len(outputs) > 1 else []
        )
        return [
            student.loss(
                outputs[index],
                teacher_outputs,
                detached_outputs[:index] + detached_outputs[index + 1 :],
                batch,
            )
            for index, student in enumerate(self.students)
        ]

    def compute_gradients(
        self, views: Tensor, batch: Batch, warn: Callable[[str], None]
    ) -> list[StudentLosses]:
        """Fill the parameters' gradients; return each learner's losses.

        Where the device has no room for the batch, it is halved until it fits. That is the same
        gradient where each sample counts by itself; what looks at the whole batch sees the smaller
        parts: batch normalization, losses that compare samples, memories, and the mean over labels
        that are missing or weighted by class. ``say`` tells people of it.
        """
        while True:
            try:
                rows = self._accumulate(views, batch)
            except torch.OutOfMemoryError as error:
                self.num_micro_batches *= 2
                if len(views) // self.num_micro_batches < 2:
                    raise OutOfDeviceMemoryError(
                        "two images at a time do not fit the device"
                    ) from error
            else:
                for student in self.students:
                    student.commit_batch()
                return rows
            self._zero_grad()
            torch.cuda.empty_cache()
            warn(
                f"out of device memory: going on with {self.num_micro_batches} parts of a batch, "
                "accumulated; what looks at a whole batch sees the parts: batch normalization, and "
                "methods that compare its samples or keep a memory of them"
            )

    def _accumulate(self, views: Tensor, batch: Batch) -> list[StudentLosses]:
        self._zero_grad()
        rows: list[list[Tensor]] = [[] for _ in self.students]
        names: list[tuple[str, ...]] = []
        # A short last batch of an epoch still gives every part two samples.
        parts = min(self.num_micro_batches, max(1, len(views) // 2))
        for part in torch.arange(len(views)).tensor_split(parts):
            span = slice(int(part[0]), int(part[-1]) + 1)
            losses = self.losses(views[span], _slice_batch(batch, span))
            share = len(part) / len(views)
            # Peers are constants to each other, so one sum gives everyone their own gradient.
            total = torch.stack([loss.total for loss in losses]).sum()
            (total if share == 1 else total * share).backward()  # type: ignore[no-untyped-call]
            names = [tuple(loss.terms) for loss in losses]
            for row, loss in zip(rows, losses, strict=True):
                values = torch.stack([loss.total, *loss.terms.values()])
                row.append(share * values.detach().float())
        summed = [row[0] if len(row) == 1 else torch.stack(row).sum(dim=0) for row in rows]
        return [StudentLosses(*pair) for pair in zip(names, summed, strict=True)]

    def update(self, lr: float) -> None:
        """One step of everyone's optimizer."""
        for student in self.students:
            student.update(lr)

    def train(self) -> None:
        """Everyone into train mode; the teachers stay as they are."""
        for student in self.students:
            student.network.train()

    def is_finite(self) -> bool:
        """Whether all weights and buffers are finite numbers."""
        return all(student.is_finite() for student in self.students)

    def close(self) -> None:
        """Take the hooks off all networks."""
        self.teacher_outputs.close()
        for student in self.students:
            student.extractor.close()

    def state_dict(self) -> StateDict:
        """For the checkpoint."""
        return {
            "learners": [student.state_dict() for student in self.students],
            "micro_batches": self.num_micro_batches,
        }

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Go on from :meth:`state`."""
        for student, part in zip(self.students, state_dict["learners"], strict=True):
            student.load_state_dict(part)
        self.num_micro_batches = state_dict["micro_batches"]

    def _zero_grad(self) -> None:
        for student in self.students:
            student.zero_grad()


def _slice_batch(batch: Batch, span: slice) -> Batch:
    target = None if batch.target is None else batch.target[span]
    mix = batch.mix and MixedLabels(batch.mix.target[span], batch.mix.share[span])
    return Batch(target, batch.index[span], batch.epoch, batch.step, mix, batch.view)
