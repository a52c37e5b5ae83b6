"""Why a loss is not a number: named before the run ends."""

import torch
from torch import Tensor

from kdcore.errors import NonFinite
from kdcore.methods.base import Batch
from kdcore.schemes.base import Phase
from kdcore.training.learner import Learner
from kdcore.training.meter import Bad


def explain(learner: Learner, views: Tensor, batch: Batch, bad: Bad, phase: Phase) -> NonFinite:
    """The error for the batch of step ``bad.step``: its step, its term, the term's gradient norm.

    The batch is run again with the weights as they are now. On the CPU those are the weights of
    that very step; on an accelerator, where losses are read a few steps late, later ones.
    """
    loss = learner.loss(views, batch)
    term = loss.terms.get(bad.term, loss.total)
    gradients = torch.autograd.grad(
        term, learner.parameters, allow_unused=True, materialize_grads=True
    )
    norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
    return NonFinite(
        f"the loss of the {phase.title} is not finite in step {bad.step} (epoch {batch.epoch}): "
        f"term {bad.term} is {float(term.detach()):g}, its gradient has norm {norm:g}; "
        "the last good checkpoint stays. A lower learning rate or clip_grad_norm may help"
    )
