"""PooledMethod: the base of methods that compare pooled features."""

from torch import Tensor

from kdcore.methods.base import Batch, DataFacts, Method, Outputs
from kdcore.methods.common.full_precision import full_precision


class PooledMethod(Method):
    """Terms of the student's and the teacher's pooled features, in full precision."""

    def build(self, student: Outputs, teacher: Outputs | None, data: DataFacts) -> None:
        """Create embeddings and memories for features of these sizes."""
        s, t = self._pair(student, teacher)
        self.build_embeddings(s.shape[1], t.shape[1], data)

    def build_embeddings(self, student_dim: int, teacher_dim: int, data: DataFacts) -> None:
        """Create embeddings and memories; most methods have none."""

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """The subclass's terms of both networks' pooled features (B, D)."""
        return full_precision(self.terms)(*self._pair(student, teacher), batch)

    def terms(self, student: Tensor, teacher: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Named, unweighted terms; the teacher's features carry no gradient."""
        raise NotImplementedError

    def _pair(self, student: Outputs, teacher: Outputs | None) -> tuple[Tensor, Tensor]:
        if student.pooled is None or teacher is None or teacher.pooled is None:
            raise ValueError(f"{type(self).__name__} needs pooled features of student and teacher")
        # A map of one pixel and a sequence of tokens become one vector.
        return student.pooled.flatten(1), teacher.pooled.detach().flatten(1)
