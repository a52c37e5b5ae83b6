"""All that learn in one phase, and their teachers: gradients of one batch, one update each."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.methods.base import Batch, Mix
from kdcore.methods.common.objective import Loss
from kdcore.runtime.errors import OutOfDeviceMemory
from kdcore.training.checkpoint import State
from kdcore.training.compute.device import Machine
from kdcore.training.loop.features import detached
from kdcore.training.loop.student_trainer import Learner
from kdcore.training.teacher_cache.provider import Answers


class Row(NamedTuple):
    """One learner's losses of one batch."""

    names: tuple[str, ...]
    values: Tensor
    """(1 + terms,): the total first."""


class Cohort:
    """Learners on one device; one of them, except where a scheme lets several teach each other."""

    def __init__(self, learners: Sequence[Learner], teachers: Answers, machine: Machine) -> None:
        self.learners = tuple(learners)
        self.teachers = teachers
        self._machine = machine
        self.micro_batches = 1

    def losses(self, views: Tensor, batch: Batch) -> list[Loss]:
        """Each learner's, of ``views`` (B, C, H, W) that everyone sees, from one pass of each."""
        views = views.contiguous(memory_format=torch.channels_last)
        autocast = self._machine.autocast()
        taught = self.teachers.of(views, batch)
        with autocast:
            outputs = [learner.observed(views) for learner in self.learners]
        constant = [detached(each) for each in outputs] if len(outputs) > 1 else []
        return [
            learner.loss(outputs[place], taught, constant[:place] + constant[place + 1 :], batch)
            for place, learner in enumerate(self.learners)
        ]

    def gradients(self, views: Tensor, batch: Batch, say: Callable[[str], None]) -> list[Row]:
        """Fill the parameters' gradients; return each learner's losses.

        Where the device has no room for the batch, it is halved until it fits. That is the same
        gradient where each sample counts by itself; what looks at the whole batch sees the smaller
        parts: batch normalisation, losses that compare samples, memories, and the mean over labels
        that are missing or weighted by class. ``say`` tells people of it.
        """
        while True:
            try:
                rows = self._accumulate(views, batch)
            except torch.OutOfMemoryError as error:
                self.micro_batches *= 2
                if len(views) // self.micro_batches < 2:
                    raise OutOfDeviceMemory("two images at a time do not fit the device") from error
            else:
                for learner in self.learners:
                    learner.remember()
                return rows
            self._clear()
            torch.cuda.empty_cache()
            say(
                f"out of device memory: going on with {self.micro_batches} parts of a batch, "
                "accumulated; what looks at a whole batch sees the parts: batch normalisation, and "
                "methods that compare its samples or keep a memory of them"
            )

    def _accumulate(self, views: Tensor, batch: Batch) -> list[Row]:
        self._clear()
        rows: list[list[Tensor]] = [[] for _ in self.learners]
        names: list[tuple[str, ...]] = []
        # A short last batch of an epoch still gives every part two samples.
        parts = min(self.micro_batches, max(1, len(views) // 2))
        for part in torch.arange(len(views)).tensor_split(parts):
            here = slice(int(part[0]), int(part[-1]) + 1)
            losses = self.losses(views[here], _part(batch, here))
            share = len(part) / len(views)
            # Peers are constants to each other, so one sum gives everyone their own gradient.
            total = torch.stack([loss.total for loss in losses]).sum()
            (total if share == 1 else total * share).backward()  # type: ignore[no-untyped-call]
            names = [tuple(loss.terms) for loss in losses]
            for row, loss in zip(rows, losses, strict=True):
                told = torch.stack([loss.total, *loss.terms.values()])
                row.append(share * told.detach().float())
        summed = [row[0] if len(row) == 1 else torch.stack(row).sum(dim=0) for row in rows]
        return [Row(*pair) for pair in zip(names, summed, strict=True)]

    def update(self, lr: float) -> None:
        """One step of everyone's optimizer."""
        for learner in self.learners:
            learner.update(lr)

    def train(self) -> None:
        """Everyone into train mode; the teachers stay as they are."""
        for learner in self.learners:
            learner.student.train()

    def finite(self) -> bool:
        """Whether all weights and buffers are finite numbers."""
        return all(learner.finite() for learner in self.learners)

    def close(self) -> None:
        """Take the hooks off all networks."""
        self.teachers.close()
        for learner in self.learners:
            learner.observed.close()

    def state(self) -> State:
        """For the checkpoint."""
        return {
            "learners": [learner.state() for learner in self.learners],
            "micro_batches": self.micro_batches,
        }

    def restore(self, state: State) -> None:
        """Go on from :meth:`state`."""
        for learner, part in zip(self.learners, state["learners"], strict=True):
            learner.restore(part)
        self.micro_batches = state["micro_batches"]

    def _clear(self) -> None:
        for learner in self.learners:
            learner.clear()


def _part(batch: Batch, here: slice) -> Batch:
    target = None if batch.target is None else batch.target[here]
    mix = batch.mix and Mix(batch.mix.target[here], batch.mix.share[here])
    return Batch(target, batch.index[here], batch.epoch, batch.step, mix, batch.view)
