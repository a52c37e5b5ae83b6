"""One network that learns: what it gives for a batch, its losses, one update, its state."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdcore.methods.base import Batch, Outputs
from kdcore.methods.common.objective import Loss, Objective
from kdcore.models.normalized_model import Normalised
from kdcore.schema.training import Training
from kdcore.training.checkpoint import State
from kdcore.training.loop import optim
from kdcore.training.loop.features import Observed


class Learner:
    """Student, objectives and optimizer on one device.

    ``peers`` holds one objective for every other learner of a cohort; the mean of what they say is
    multiplied with ``peer_weight``.
    """

    def __init__(
        self,
        observed: Observed,
        objective: Objective,
        peers: Sequence[Objective],
        peer_weight: float,
        recipe: Training,
    ) -> None:
        self.observed = observed
        self.student: Normalised = observed.network
        self.objective = objective
        self.peers = nn.ModuleList(peers)
        self._peer_weight = peer_weight
        self._clip = recipe.clip_grad_norm
        self.parameters: list[nn.Parameter] = [
            *self.student.parameters(),
            *objective.parameters(),
            *self.peers.parameters(),
        ]
        self._optimizer = optim.make(recipe.optimizer, self.parameters)

    def loss(
        self,
        outputs: Outputs,
        taught: Sequence[Outputs],
        peers: Sequence[Outputs],
        batch: Batch,
    ) -> Loss:
        """Of its own ``outputs``, the teachers' and, in a cohort, the other learners'."""
        parts: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        if not (self.objective.idle and peers):
            own: Loss = self.objective(outputs, taught, batch)
            parts.append(own.total)
            terms |= own.terms
        said: list[Loss] = [
            objective(outputs, [peer], batch)
            for objective, peer in zip(self.peers, peers, strict=True)
        ]
        if said:
            parts.append(self._peer_weight * _mean([loss.total for loss in said]))
            terms |= {
                f"peers/{name}": _mean([loss.terms[name] for loss in said])
                for name in said[0].terms
            }
        return Loss(torch.stack(parts).sum(), terms)

    def preparing(self, step: int) -> bool:
        """Whether in ``step`` (from 1) only adapters or early layers learn.

        The stages of what is learned from a teacher hold back nothing that is learned from peers,
        nor the other way round: while one of them teaches answers, answers get better.
        """
        own, *among = self._objectives()
        speaking = among if among and own.idle else [own, *among]
        return all(each.preparing(step) for each in speaking)

    def _objectives(self) -> list[Objective]:
        return [self.objective, *(each for each in self.peers if isinstance(each, Objective))]

    def clear(self) -> None:
        """Forget all gradients, and what the methods saw on the way to them."""
        self._optimizer.zero_grad()
        for objective in self._objectives():
            objective.forget()

    def remember(self) -> None:
        """The gradients of a batch are whole: let the methods keep what they saw of it."""
        for objective in self._objectives():
            objective.remember()

    def update(self, lr: float) -> None:
        """One step of the optimizer with the gradients that are there."""
        if self._clip is not None:
            nn.utils.clip_grad_norm_(self.parameters, self._clip)
        optim.set_lr(self._optimizer, lr)
        self._optimizer.step()

    def finite(self) -> bool:
        """Whether every weight and buffer is a finite number. Waits for the device once."""
        modules = (self.student, self.objective, self.peers)
        state = [tensor for module in modules for tensor in module.state_dict().values()]
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
            "peers": self.peers.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: State) -> None:
        """Go on from :meth:`state`."""
        self.student.network.load_state_dict(state["student"])
        self.objective.load_state_dict(state["objective"])
        self.peers.load_state_dict(state["peers"])
        self._optimizer.load_state_dict(state["optimizer"])


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
