"""NonFiniteDetector: ends a training whose losses or weights are infinite or NaN."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kdcore.methods.base import Batch
from kdcore.runtime.errors import NonFiniteError
from kdcore.schemes.base import Phase
from kdcore.training.loop.meters import LossMeter, NonFiniteStep
from kdcore.training.loop.student_group import StudentGroup


class NonFiniteDetector:
    """Checks the collected losses and the weights of a phase.

    ``load_batch`` returns the images and the batch of a step (from 0) and seeds torch for it.
    """

    def __init__(
        self,
        phase: Phase,
        student_group: StudentGroup,
        loss_meters: Sequence[LossMeter],
        load_batch: Callable[[int], tuple[Tensor, Batch]],
    ) -> None:
        self._phase = phase
        self._student_group = student_group
        self._loss_meters = loss_meters
        self._load_batch = load_batch

    def check_losses(self) -> None:
        """Raise ``NonFiniteError`` if a loss since the last call is not finite."""
        for student_index, meter in enumerate(self._loss_meters):
            nonfinite = meter.first_nonfinite()
            if nonfinite is not None:
                raise self._loss_error(student_index, nonfinite)

    def check_all(self, step: int) -> None:
        """Raise ``NonFiniteError`` if losses or weights are not finite after ``step`` steps."""
        self.check_losses()
        if not self._student_group.is_finite():
            raise NonFiniteError(
                f"the weights of the {self._phase.title} are not finite after step {step}; "
                "the loss was finite, so its gradient was not"
            )

    def _loss_error(self, student_index: int, nonfinite: NonFiniteStep) -> NonFiniteError:
        """The error with the step, the term and the term's gradient norm.

        The batch runs again with the present weights. On the CPU these are the weights of the
        step itself. On an accelerator, where losses are read later, a few updates may lie between.
        """
        views, batch = self._load_batch(nonfinite.step - 1)
        loss = self._student_group.losses(views, batch)[student_index]
        term = loss.terms.get(nonfinite.term, loss.total)
        gradients = torch.autograd.grad(
            term,
            self._student_group.students[student_index].parameters,
            allow_unused=True,
            materialize_grads=True,
        )
        norm = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
        name = self._phase.students[student_index].name
        return NonFiniteError(
            f"the loss of the {name} with seed {self._phase.seed} is not finite in step "
            f"{nonfinite.step} (epoch {batch.epoch}): term {nonfinite.term} is "
            f"{float(term.detach()):g}, its gradient has norm {norm:g}; the last checkpoint before "
            "this step is valid. A lower learning rate or clip_grad_norm may help"
        )
