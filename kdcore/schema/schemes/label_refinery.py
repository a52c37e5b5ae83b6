"""Parameters of the scheme ``label_refinery``."""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.methods.base import MethodParams
from kdcore.schema.schemes.base import SchemeParams


class LabelRefinery(SchemeParams):
    """Rounds in which the last model labels every view softly and the next learns from those alone.

    Choose it where labels are noisy, or where one label says too little about a crop. The first
    labeler is the job's teacher, or a network that learned from the labels. The rounds end when
    validation top-1 no longer improves.
    """

    teacher = "optional"
    paper = "https://arxiv.org/abs/1805.02641"
    trains_teachers = True

    type: Literal["label_refinery"]
    max_rounds: Annotated[int, Field(ge=1, le=10)] = 3
    min_gain: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Points of validation top-1 by which a round must improve on the last for another to start."""

    def max_phases(self, *, has_teacher: bool) -> int:
        """One training for each round, and one for the labeler where the job has no teacher."""
        return self.max_rounds + (not has_teacher)

    def has_soft_targets(self, methods: Sequence[MethodParams], *, has_teacher: bool) -> bool:
        """Always: rounds learn from soft labels where no method trains the classifier."""
        return True
