"""TrainableStudent: one network with its objectives and its optimizer."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from kdcore.methods.base import Batch, Outputs
from kdcore.methods.common.objective import Loss, Objective
from kdcore.methods.common.weight_plan import WeightPlan
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.training_config import SGD, Optimizer, TrainingConfig
from kdcore.training.checkpoint import StateDict
from kdcore.training.loop.features import FeatureExtractor

PEERS = "peers/"
"""Prefix of the names of terms and methods that compare a student with its peers."""


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
        weight_plan: WeightPlan,
    ) -> None:
        self.extractor = extractor
        self.network: NormalizedModel = extractor.network
        self.objective = objective
        self.peer_objectives = nn.ModuleList(peer_objectives)
        self._peer_weight = peer_weight
        self.weight_plan = weight_plan
        self._clip_grad_norm = training.clip_grad_norm
        self.parameters: list[nn.Parameter] = [
            *self.network.parameters(),
            *objective.parameters(),
            *self.peer_objectives.parameters(),
        ]
        self._optimizer_spec = training.optimizer
        self._optimizer = self.build_optimizer()

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
        self._set_weights(batch.step)
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
                f"{PEERS}{name}": _mean([loss.terms[name] for loss in peer_losses])
                for name in peer_losses[0].terms
            }
        return Loss(torch.stack(parts).sum(), terms)

    def _set_weights(self, step: int) -> None:
        """Give all methods with weight ``auto``, and cross-entropy, their weights in ``step``."""
        plan = self.weight_plan
        if not plan.methods:
            return
        methods = [
            (prefix + name, objective, method)
            for prefix, objective in self._named_objectives()
            for name, method in objective.auto_methods.items()
        ]
        # Several peers have a method of one name, whose share they divide.
        active = {
            name
            for name, objective, _ in methods
            if any(
                factor and objective.is_active(term, step)
                for term, factor in plan.measured[name].terms.items()
            )
        }
        for name, _, method in methods:
            method.weight = plan.method_weight(name, step, active)
        self.objective.label_weight = plan.label_weight(step, active)

    def term_weights(self) -> dict[str, float]:
        """Weights of the terms of the latest batch, if the training found any of them."""
        if not self.weight_plan.methods:
            return {}
        return {
            prefix + term: weight
            for prefix, objective in self._named_objectives()
            for term, weight in objective.term_weights.items()
        }

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

    def _named_objectives(self) -> list[tuple[str, Objective]]:
        main, *peers = self._objectives()
        return [("", main), *((PEERS, peer) for peer in peers)]

    def build_optimizer(self) -> torch.optim.Optimizer:
        """A new optimizer of all parameters, as the job has it."""
        return _build_optimizer(self._optimizer_spec, self.parameters)

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

    @property
    def objectives_of_peers(self) -> list[Objective]:
        """The objectives of the other students of the group, in their order."""
        return self._objectives()[1:]

    def modules_state(self) -> StateDict:
        """A copy of the weights and buffers of the network and the objectives."""
        return {
            name: {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}
            for name, module in self._modules().items()
        }

    def load_modules_state(self, state: StateDict) -> None:
        """Restore the result of :meth:`modules_state`."""
        for name, module in self._modules().items():
            module.load_state_dict(state[name])

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "network": self.network.network,
            "objective": self.objective,
            "peer_objectives": self.peer_objectives,
        }

    def state_dict(self) -> StateDict:
        """State for the checkpoint."""
        return {
            **{name: module.state_dict() for name, module in self._modules().items()},
            "optimizer": self._optimizer.state_dict(),
            "weights": self.weight_plan.state_dict(),
        }

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.load_modules_state(state_dict)
        self._optimizer.load_state_dict(state_dict["optimizer"])
        # Checkpoints of version 0.1.0 have none.
        self.weight_plan.load_state_dict(state_dict.get("weights", {}))


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
