"""What the methods that look at logits share."""

from typing import ClassVar

from torch import Tensor

from kdcore.methods.base import Batch, Method, Outputs
from kdcore.methods.common.standardize import standardize
from kdcore.schema.methods import Need


class LogitMethod(Method):
    """A term of the student's and the teacher's logits alone, standardized first if asked."""

    needs: ClassVar[frozenset[Need]] = frozenset({"logits"})

    def __init__(self, *, weight: float, temperature: float, standardized: bool) -> None:
        super().__init__()
        self.weight = weight
        self.temperature = temperature
        self.standardized = standardized

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """The subclass's terms of both networks' logits (B, C)."""
        if teacher is None:
            raise ValueError(f"{type(self).__name__} needs a teacher's logits")
        s, t = student.logits, teacher.logits.detach()
        if self.standardized:
            s, t = standardize(s), standardize(t)
        return self.terms(s, t, batch)

    def terms(self, s: Tensor, t: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms of student and teacher logits (B, C)."""
        raise NotImplementedError
