"""LogitMethod: the base of methods that compare logits."""

from torch import Tensor

from kdcore.methods.base import Batch, Method, Outputs
from kdcore.methods.common.full_precision import at_least_float32
from kdcore.schema.methods import MethodParams

_TINY = 1e-7
"""Added to the deviation, so that equal logits become zeros instead of NaN."""


def standardize(logits: Tensor) -> Tensor:
    """Each row of ``logits`` (B, C) with mean 0 and unbiased standard deviation 1.

    Sun et al. 2024, https://arxiv.org/abs/2403.01427.
    """
    z = at_least_float32(logits)
    centered = z - z.mean(dim=1, keepdim=True)
    return centered / (_TINY + z.std(dim=1, keepdim=True))


class LogitMethod(Method):
    """Terms of the student's and the teacher's logits, which are standardized first on request."""

    def __init__(self, params: MethodParams) -> None:
        super().__init__(params)
        self.temperature = getattr(params, "temperature", 1.0)
        self.standardized: bool = getattr(params, "logit_standardization", False)

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """The subclass's terms of both networks' logits (B, C)."""
        if teacher is None:
            raise ValueError(f"{type(self).__name__} needs the logits of a teacher")
        s, t = student.logits, teacher.logits.detach()
        if self.standardized:
            s, t = standardize(s), standardize(t)
        return self.terms(s, t, batch)

    def terms(self, s: Tensor, t: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms of student and teacher logits (B, C)."""
        raise NotImplementedError
