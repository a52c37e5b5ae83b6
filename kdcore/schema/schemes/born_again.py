"""Parameters of the scheme ``born_again``."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.schemes.base import SchemeParams


class BornAgain(SchemeParams):
    """Generations of one architecture, each taught by the one before it.

    Choose it to get more out of an architecture that cannot change. The first generation learns
    from the job's teacher, or from labels alone; the last one is delivered, and the report also
    evaluates the ensemble of all generations: the mean of their probabilities.
    """

    teacher = "optional"
    paper = "https://arxiv.org/abs/1805.04770"
    trains_teachers = True

    type: Literal["born_again"]
    generations: Annotated[int, Field(ge=2, le=10)] = 3
    export_ensemble: bool = False
    """Also publish the ensemble as one network, as ONNX and as an exported program."""

    def max_phases(self, *, has_teacher: bool) -> int:
        """One training for each generation."""
        return self.generations
