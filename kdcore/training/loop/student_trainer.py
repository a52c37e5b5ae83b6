"""One network that learns: what it gives for a batch, its losses, one update, its state."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdcore.methods.base import Batch, Outputs
from kdcore.methods.common.objective import Loss, Objective
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.training import TrainingConfig
from kdcore.training.checkpoint import StateDict
from kdcore.training.loop import optim
from kdcore.training.loop.features import FeatureExtractor


class TrainableStudent:
    """Student, objectives and optimizer on one device.

    ``peers`` holds one objective for every other learner of a cohort; the mean of what they say is
    multiplied with ``peer_weight``.
    """

    def __init__(
        self,
        extractor: FeatureExtractor,
        objective: Objective,
        peer_objectives: Sequence[Objective],
        peer_weight: float,
        training: TrainingConfig,
    ) -> None:
        self.extractor = extractor
        self.network: NormalizedModel = extractor.network
        self.objective = objective
        self.peer_objectives = nn.ModuleList(peer_objectives)
        self._peer_weight = peer_weight
        self._clip_grad_norm = training.clip_grad_norm
        self.parameters: list[nn.Parameter] = [
            *self.network.parameters(),
            *objective.parameters(),
            *self.peer_objectives.parameters(),
        ]
        self._optimizer = optim.build_optimizer(training.optimizer, self.parameters)

    def loss(
        self,
        outputs: Outputs,
        teacher_outputs: Sequence[Outputs],
        peer_outputs: Sequence[Outputs],
        batch: Batch,
    ) -> Loss:
        """Of its own ``outputs``, the teachers' and, in a cohort, the other learners'."""
        parts: list[Tensor] = []
        terms: dict[str, Tensor] = {}
        if not (self.objective.is_empty and peer_outputs):
            main_loss: Loss = self.objective(outputs, teacher_outputs, batch)
            parts.append(main_loss.total)
            terms |= main_loss.terms
        peer_losses: list[Loss] = [
            objective(outputs, [peer], batch)
            for objective, peer in zip(self.peer_objectives, peer_outputs, strict=True)
        ]
        if peer_losses:
            parts.append(self._peer_weight * _mean([loss.total for loss in peer_losses]))
            terms |= {
                f"peers/{name}": _mean([loss.terms[name] for loss in peer_losses])
                for name in peer_losses[0].terms
            }
        return Loss(torch.stack(parts).sum(), terms)

    def is_warming_up(self, step: int) -> bool:
        """Whether in ``step`` (from 1) only adapters or early layers learn.

        The stages of what is learned from a teacher hold back nothing that is learned from peers,
        nor the other way round: while one of them teaches answers, answers get better.
        """
        main, *peers = self._objectives()
        active = peers if peers and main.is_empty else [main, *peers]
        return all(objective.in_adapter_stage(step) for objective in active)

    def _objectives(self) -> list[Objective]:
        return [
            self.objective,
            *(objective for objective in self.peer_objectives if isinstance(objective, Objective)),
        ]

    def zero_grad(self) -> None:
        """Forget all gradients, and what the methods saw on the way to them."""
        self._optimizer.zero_grad()
        for objective in self._objectives():
            objective.discard_batch()

    def commit_batch(self) -> None:
        """The gradients of a batch are whole: let the methods keep what they saw of it."""
        for objective in self._objectives():
            objective.commit_batch()

    def update(self, lr: float) -> None:
        """One step of the optimizer with the gradients that are there."""
        if self._clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self._clip_grad_norm)
        optim.set_lr(self._optimizer, lr)
        self._optimizer.step()

    def is_finite(self) -> bool:
        """Whether every weight and buffer is a finite number. Waits for the device once."""
        modules = (self.network, self.objective, self.peer_objectives)
        state = [tensor for module in modules for tensor in module.state_dict().values()]
        return bool(torch.stack([tensor.isfinite().all() for tensor in state]).all())

    def weights(self) -> dict[str, Tensor]:
        """A copy of the plain network's state dict on the CPU."""
        state = self.network.network.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def state_dict(self) -> StateDict:
        """For the checkpoint."""
        return {
            "student": self.network.network.state_dict(),
            "objective": self.objective.state_dict(),
            "peers": self.peer_objectives.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Go on from :meth:`state`."""
        self.network.network.load_state_dict(state_dict["student"])
        self.objective.load_state_dict(state_dict["objective"])
        self.peer_objectives.load_state_dict(state_dict["peers"])
        self._optimizer.load_state_dict(state_dict["optimizer"])


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()
