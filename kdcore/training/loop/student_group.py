"""StudentGroup: the students that train together on one batch, and their teachers' outputs."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from kdcore.methods.base import Batch, MixedLabels, Outputs
from kdcore.methods.common.objective import Loss
from kdcore.training.checkpoint import StateDict
from kdcore.training.compute.device import ComputeEnv
from kdcore.training.loop.features import detach_outputs
from kdcore.training.loop.out_of_memory import MicroBatcher
from kdcore.training.loop.student_trainer import TrainableStudent
from kdcore.training.teacher_cache.provider import LiveTeacherOutputs, TeacherOutputs

_T = TypeVar("_T")


class StudentLosses(NamedTuple):
    """Losses of one student for one batch."""

    names: tuple[str, ...]
    """Names of the terms."""
    values: Tensor
    """(1 + terms,), the total first."""


class StudentGroup:
    """One student, or several students that teach each other, on one device."""

    def __init__(
        self,
        students: Sequence[TrainableStudent],
        live_teachers: LiveTeacherOutputs,
        compute_env: ComputeEnv,
    ) -> None:
        self.students = tuple(students)
        self.live_teachers = live_teachers
        self.teacher_outputs: TeacherOutputs = live_teachers
        """Where losses take the teachers' outputs from; a teacher cache may replace it."""
        self._compute_env = compute_env
        self._micro_batcher = MicroBatcher()

    @property
    def num_micro_batches(self) -> int:
        """Parts into which a batch is split to fit into the device's memory."""
        return self._micro_batcher.num_micro_batches

    def losses(self, views: Tensor, batch: Batch) -> list[Loss]:
        """Each student's loss for ``views`` (B, C, H, W), from one forward pass of each."""
        views = views.contiguous(memory_format=torch.channels_last)
        teacher_outputs = self.teacher_outputs.for_batch(views, batch)
        outputs = self.run_students(views)
        return [
            student.loss(outputs[index], teacher_outputs, peers_of(outputs, index), batch)
            for index, student in enumerate(self.students)
        ]

    def run_students(self, views: Tensor) -> list[Outputs]:
        """Each student's outputs for ``views`` (B, C, H, W), from one forward pass of each."""
        with self._compute_env.autocast():
            return [student.extractor(views) for student in self.students]

    def run_in_parts(
        self,
        batch_size: int,
        accumulate: Callable[[list[slice]], _T],
        warn: Callable[[str], None],
    ) -> _T:
        """Return ``accumulate(spans)`` for spans of a batch that fit into the device's memory."""
        return self._micro_batcher.run(batch_size, accumulate, self._zero_grad, warn)

    def compute_gradients(
        self, views: Tensor, batch: Batch, warn: Callable[[str], None]
    ) -> list[StudentLosses]:
        """Compute the gradients of all parameters and return each student's losses.

        A batch that exceeds the device's memory is split until it fits; ``warn`` receives a
        message. The accumulated gradient is the same where every sample counts by itself. It
        differs for batch normalization, for losses that compare samples, for memories, and for
        means over labels that are missing or weighted by class: these see the parts.
        """
        losses = self.run_in_parts(
            len(views), lambda spans: self._accumulate(views, batch, spans), warn
        )
        for student in self.students:
            student.commit_batch()
        return losses

    def _accumulate(
        self, views: Tensor, batch: Batch, spans: Sequence[slice]
    ) -> list[StudentLosses]:
        self._zero_grad()
        rows: list[list[Tensor]] = [[] for _ in self.students]
        names: list[tuple[str, ...]] = []
        for span in spans:
            losses = self.losses(views[span], slice_batch(batch, span))
            share = (span.stop - span.start) / len(views)
            # Peers' outputs are constants, so one sum gives each student its gradient.
            total = torch.stack([loss.total for loss in losses]).sum()
            (total if share == 1 else total * share).backward()
            names = [tuple(loss.terms) for loss in losses]
            for row, loss in zip(rows, losses, strict=True):
                values = torch.stack([loss.total, *loss.terms.values()])
                row.append(share * values.detach().float())
        summed = [row[0] if len(row) == 1 else torch.stack(row).sum(dim=0) for row in rows]
        return [StudentLosses(*pair) for pair in zip(names, summed, strict=True)]

    def update(self, lr: float) -> None:
        """Make one optimizer step of each student."""
        for student in self.students:
            student.update(lr)

    def train(self) -> None:
        """Set the students to train mode; teachers stay in eval mode."""
        for student in self.students:
            student.network.train()

    def is_finite(self) -> bool:
        """Whether all weights and buffers are finite."""
        return all(student.is_finite() for student in self.students)

    def close(self) -> None:
        """Remove the hooks from all networks."""
        self.teacher_outputs.close()
        for student in self.students:
            student.extractor.close()

    def state_dict(self) -> StateDict:
        """State for the checkpoint."""
        return {
            "students": [student.state_dict() for student in self.students],
            "num_micro_batches": self.num_micro_batches,
        }

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Restore the result of :meth:`state_dict`."""
        for student, part in zip(self.students, state_dict["students"], strict=True):
            student.load_state_dict(part)
        self._micro_batcher.num_micro_batches = state_dict["num_micro_batches"]

    def _zero_grad(self) -> None:
        for student in self.students:
            student.zero_grad()


def peers_of(outputs: Sequence[Outputs], index: int) -> list[Outputs]:
    """The outputs of all students but the one at ``index``, without gradients."""
    return [detach_outputs(output) for other, output in enumerate(outputs) if other != index]


def slice_batch(batch: Batch, span: slice) -> Batch:
    """The part ``span`` of a batch."""
    target = None if batch.target is None else batch.target[span]
    mix = batch.mix and MixedLabels(batch.mix.target[span], batch.mix.share[span])
    return Batch(target, batch.index[span], batch.epoch, batch.step, mix, batch.view)
