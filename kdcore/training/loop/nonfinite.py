"""Why a loss is not a number: named before the run ends."""

import torch
from torch import Tensor

from kdcore.methods.base import Batch
from kdcore.runtime.errors import NonFiniteError
from kdcore.schemes.base import Phase
from kdcore.training.loop.loss_meter import NonFiniteStep
from kdcore.training.loop.student_group import StudentGroup


def nonfinite_error(
    student_group: StudentGroup,
    student_index: int,
    views: Tensor,
    batch: Batch,
    nonfinite: NonFiniteStep,
    phase: Phase,
) -> NonFiniteError:
    """The error for the batch of step ``bad.step``: its step, its term, the term's gradient norm.

    ``place`` says whose loss it is. The batch is run again with the weights as they are now. On the
    CPU those are the weights of that very step; on an accelerator, where losses are read a few
    steps late, later ones.
    """
    loss = student_group.losses(views, batch)[student_index]
    term = loss.terms.get(nonfinite.term, loss.total)
    gradients = torch.autograd.grad(
        term,
        student_group.students[student_index].parameters,
        allow_unused=True,
        materialize_grads=True,
    )
    norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
    return NonFiniteError(
        f"the loss of the {phase.students[student_index].name} with seed {phase.seed} is "
        "not finite in step "
        f"{nonfinite.step} (epoch {batch.epoch}): "
        f"term {nonfinite.term} is {float(term.detach()):g}, its gradient has norm {norm:g}; "
        "the last good checkpoint stays. A lower learning rate or clip_grad_norm may help"
    )
