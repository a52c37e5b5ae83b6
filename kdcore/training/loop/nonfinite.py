"""Why a loss is not a number: named before the run ends."""

import torch
from torch import Tensor

from kdcore.methods.base import Batch
from kdcore.runtime.errors import NonFinite
from kdcore.schemes.base import Phase
from kdcore.training.loop.loss_meter import Bad
from kdcore.training.loop.student_group import Cohort


def explain(
    cohort: Cohort, place: int, views: Tensor, batch: Batch, bad: Bad, phase: Phase
) -> NonFinite:
    """The error for the batch of step ``bad.step``: its step, its term, the term's gradient norm.

    ``place`` says whose loss it is. The batch is run again with the weights as they are now. On the
    CPU those are the weights of that very step; on an accelerator, where losses are read a few
    steps late, later ones.
    """
    loss = cohort.losses(views, batch)[place]
    term = loss.terms.get(bad.term, loss.total)
    gradients = torch.autograd.grad(
        term, cohort.learners[place].parameters, allow_unused=True, materialize_grads=True
    )
    norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
    return NonFinite(
        f"the loss of the {phase.pupils[place].name} with seed {phase.seed} is not finite in step "
        f"{bad.step} (epoch {batch.epoch}): "
        f"term {bad.term} is {float(term.detach()):g}, its gradient has norm {norm:g}; "
        "the last good checkpoint stays. A lower learning rate or clip_grad_norm may help"
    )
