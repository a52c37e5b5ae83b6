"""One network that learns: gradients of one batch, one update, its state."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from kdcore.errors import OutOfDeviceMemory
from kdcore.evaluation.teachers import Teachers
from kdcore.methods.base import Batch, Outputs
from kdcore.methods.objective import Loss, Objective
from kdcore.models.preprocess import Normalised
from kdcore.spec.training import Training
from kdcore.training import optim
from kdcore.training.checkpoint import State
from kdcore.training.device import Machine


class Learner:
    """Student, objective and optimizer on one device."""

    def __init__(
        self,
        student: Normalised,
        objective: Objective,
        teachers: Teachers,
        recipe: Training,
        machine: Machine,
    ) -> None:
        self.student = student.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.objective = objective.to(machine.device)
        self._teachers = teachers if objective.taught else None
        self._machine = machine
        self._clip = recipe.clip_grad_norm
        self.parameters: list[nn.Parameter] = [*student.parameters(), *objective.parameters()]
        self._optimizer = optim.make(recipe.optimizer, self.parameters)
        self.micro_batches = 1

    def loss(self, views: Tensor, batch: Batch) -> Loss:
        """Of ``views`` (B, C, H, W) uint8, which student and teachers both see."""
        views = views.contiguous(memory_format=torch.channels_last)
        autocast = self._machine.autocast()
        taught = self._teachers(views, autocast) if self._teachers else []
        with autocast:
            logits = self.student(views)
        loss: Loss = self.objective(Outputs(logits), taught, batch)
        return loss

    def gradients(
        self, views: Tensor, batch: Batch, say: Callable[[str], None]
    ) -> tuple[tuple[str, ...], Tensor]:
        """Fill the parameters' gradients; return the terms' names and the row (1 + terms,).

        Where the device has no room for the batch, it is halved until it fits: same gradient, but
        batch normalisation then sees the smaller parts. ``say`` tells people of it.
        """
        while True:
            try:
                return self._accumulate(views, batch)
            except torch.OutOfMemoryError as error:
                self.micro_batches *= 2
                if len(views) // self.micro_batches < 2:
                    raise OutOfDeviceMemory("two images at a time do not fit the device") from error
            self._optimizer.zero_grad()
            torch.cuda.empty_cache()
            say(
                f"out of device memory: going on with {self.micro_batches} parts of a batch, "
                "accumulated; batch normalisation sees the parts"
            )

    def _accumulate(self, views: Tensor, batch: Batch) -> tuple[tuple[str, ...], Tensor]:
        self._optimizer.zero_grad()
        names: tuple[str, ...] = ()
        rows: list[Tensor] = []
        # A short last batch of an epoch still gives every part two samples.
        parts = min(self.micro_batches, max(1, len(views) // 2))
        for part in torch.arange(len(views)).tensor_split(parts):
            here = slice(int(part[0]), int(part[-1]) + 1)
            loss = self.loss(views[here], _part(batch, here))
            share = len(part) / len(views)
            (loss.total if share == 1 else loss.total * share).backward()  # type: ignore[no-untyped-call]
            names = tuple(loss.terms)
            rows.append(share * torch.stack([loss.total, *loss.terms.values()]).detach().float())
        return names, rows[0] if len(rows) == 1 else torch.stack(rows).sum(dim=0)

    def update(self, lr: float) -> None:
        """One step of the optimizer with the gradients that are there."""
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self._clip)
        optim.set_lr(self._optimizer, lr)
        self._optimizer.step()

    def finite(self) -> bool:
        """Whether every weight and buffer is a finite number. Waits for the device once."""
        state = [*self.student.state_dict().values(), *self.objective.state_dict().values()]
        return bool(torch.stack([tensor.isfinite().all() for tensor in state]).all())

    def weights(self) -> dict[str, Tensor]:
        """A copy of the plain network's state dict on the CPU."""
        state = self.student.network.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def state(self) -> State:
        """For the checkpoint."""
        return {
            "student": self.student.network.state_dict(),
            "objective": self.objective.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "micro_batches": self.micro_batches,
        }

    def restore(self, state: State) -> None:
        """Go on from :meth:`state`."""
        self.student.network.load_state_dict(state["student"])
        self.objective.load_state_dict(state["objective"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.micro_batches = state["micro_batches"]


def _part(batch: Batch, here: slice) -> Batch:
    target = None if batch.target is None else batch.target[here]
    return Batch(target, batch.index[here], batch.epoch, batch.step)
