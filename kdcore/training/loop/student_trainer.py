"""TrainableStudent: one network with its objectives and its optimizer."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from kdcore.methods.base import Batch, Outputs
from kdcore.methods.common.objective import Loss, Objective
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.training_config import SGD, Optimizer, TrainingConfig
from kdcore.training.checkpoint import StateDict
from kdcore.training.loop.features import FeatureExtractor


class TrainableStudent:
    """A student, its objectives and its optimizer on one device.

    ``peer_objectives`` has one objective for each other student of the group. The mean of their
    losses is multiplied by ``peer_weight``.
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
        self._optimizer = _build_optimizer(training.optimizer, self.parameters)

    def loss(
        self,
        outputs: Outputs,
        teacher_outputs: Sequence[Outputs],
        peer_outputs: Sequence[Outputs],
        batch: Batch,
    ) -> Loss:
        """The loss of the student's ``outputs`` for one batch.

        ``peer_outputs`` are the detached outputs of the other students, in their order.
        """
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
        """Whether only adapters or early layers train in ``step`` (from 1).

        Teacher and peer objectives have independent stages. The student counts as warming up only
        if all active objectives are in an adapter-only stage.
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
        """Reset all gradients, and discard what methods recorded while computing them."""
        self._optimizer.zero_grad()
        for objective in self._objectives():
            objective.discard_batch()

    def commit_batch(self) -> None:
        """Let methods store what they recorded for a batch; its gradients are complete."""
        for objective in self._objectives():
            objective.commit_batch()

    def update(self, lr: float) -> None:
        """Make one optimizer step with the present gradients."""
        if self._clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self._clip_grad_norm)
        _set_lr(self._optimizer, lr)
        self._optimizer.step()

    def is_finite(self) -> bool:
        """Whether every weight and buffer is finite. Waits for the device once."""
        modules = (self.network, self.objective, self.peer_objectives)
        state = [tensor for module in modules for tensor in module.state_dict().values()]
        return bool(torch.stack([tensor.isfinite().all() for tensor in state]).all())

    def weights(self) -> dict[str, Tensor]:
        """A copy of the plain network's state dict on the CPU."""
        state = self.network.network.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}

    def state_dict(self) -> StateDict:
        """State for the checkpoint."""
        return {
            "network": self.network.network.state_dict(),
            "objective": self.objective.state_dict(),
            "peer_objectives": self.peer_objectives.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.network.network.load_state_dict(state_dict["network"])
        self.objective.load_state_dict(state_dict["objective"])
        self.peer_objectives.load_state_dict(state_dict["peer_objectives"])
        self._optimizer.load_state_dict(state_dict["optimizer"])


def _mean(values: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(values)).mean()


def _build_optimizer(spec: Optimizer, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """An optimizer with one group: all parameters have the same weight decay."""
    if isinstance(spec, SGD):
        return _sgd(spec, list(parameters))
    return torch.optim.AdamW(
        parameters, lr=spec.lr, betas=spec.betas, weight_decay=spec.weight_decay, fused=True
    )


def _sgd(spec: SGD, parameters: list[nn.Parameter]) -> torch.optim.SGD:
    optimizer = torch.optim.SGD(
        parameters,
        lr=spec.lr,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.nesterov,
        fused=True,
    )
    if spec.momentum:
        # torch creates momentum buffers in a parameter's first step, and its fused step fails if
        # some parameters have their first step later, as in a method with two stages. A buffer of
        # zeros gives the same first step.
        for parameter in parameters:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use the learning rate ``lr`` in the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr
