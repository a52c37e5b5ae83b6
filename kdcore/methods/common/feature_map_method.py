"""FeatureMapMethod: the base of methods that compare feature maps."""

from collections.abc import Sequence

from torch import Tensor

from kdcore.methods.base import Batch, DataFacts, Method, Outputs
from kdcore.methods.common.full_precision import full_precision
from kdcore.runtime.errors import UserError
from kdcore.schema.methods import MethodParams

FeatureMaps = list[Tensor]


class FeatureMapMethod(Method):
    """Terms of the student's and the teacher's maps, in full precision."""

    def __init__(self, params: MethodParams) -> None:
        super().__init__(params)
        self.min_maps = params.min_maps

    def build(self, student: Outputs, teacher: Outputs | None, data: DataFacts) -> None:
        """Create adapters for maps of these shapes.

        Raises ``UserError`` (student_incompatible) where the pair has too few maps.
        """
        s, t = _pairs(self, student, teacher)
        if len(s) < self.min_maps:
            raise UserError(
                "student_incompatible",
                f"{_name(self)} needs {self.min_maps} feature map(s) or more of both networks, and "
                f"this pair has {len(s)}",
                hint="Choose another method, or name more layers of both networks to compare.",
            )
        self.build_adapters(s, t)

    def build_adapters(self, student: FeatureMaps, teacher: FeatureMaps) -> None:
        """Create modules that train with the student; most methods have none."""

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """The subclass's terms of both networks' maps [(B, C_i, H_i, W_i)]."""
        return full_precision(self.terms)(*_pairs(self, student, teacher))

    def terms(self, student: FeatureMaps, teacher: FeatureMaps) -> dict[str, Tensor]:
        """Named, unweighted terms; the teacher's maps carry no gradient."""
        raise NotImplementedError


def _pairs(
    method: Method, student: Outputs, teacher: Outputs | None
) -> tuple[FeatureMaps, FeatureMaps]:
    if teacher is None or len(teacher.maps) != len(student.maps):
        raise ValueError(f"{_name(method)} needs one teacher, with as many maps as the student")
    return list(student.maps), [feature_map.detach() for feature_map in teacher.maps]


def _name(method: Method) -> str:
    return type(method).__name__


def sum_terms(terms: Sequence[Tensor]) -> Tensor:
    """Sum of scalars."""
    return sum(terms[1:], start=terms[0])
