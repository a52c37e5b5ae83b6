"""Parameters of the scheme ``mutual``."""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field

from kdcore.schema.catalog import ArchitectureName
from kdcore.schema.methods.base import MethodParams
from kdcore.schema.schemes.base import SchemeNetworks, SchemeParams


class Mutual(SchemeParams):
    """Several students train together and teach each other (Deep Mutual Learning).

    Choose it where there is no teacher. Each student adds the mean over its peers of
    KL(peer ‖ self), T = 1, from one forward pass of all students. Methods that use a teacher
    compare with the job's teacher if it has one; if not, with each peer, and then replace that KL.
    Where a method begins with a stage of its own, the terms of the peers stay active in it.
    """

    teacher = "optional"
    paper = "https://arxiv.org/abs/1706.00384"
    networks_field = "peers"

    type: Literal["mutual"]
    peers: Annotated[tuple[ArchitectureName, ...], Field(min_length=1, max_length=7)] | None = None
    """Architectures of the other students, built as the catalog has them; null adds one more
    network like the student, derived and tapped in the same way. Peers start from random
    weights."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Factor of the mean KL."""

    def has_soft_targets(self, methods: Sequence[MethodParams], *, has_teacher: bool) -> bool:
        """Peers know no classes unless a teacher or the labels teach them."""
        return has_teacher and super().has_soft_targets(methods, has_teacher=has_teacher)

    def with_defaults(self, networks: SchemeNetworks) -> Self:
        """One peer of the student's architecture.

        A derived or tapped student has no such name, so its peers stay null.
        """
        has_name = not (networks.student_is_derived or networks.student_has_taps)
        if self.peers is None and networks.student is not None and has_name:
            return self.model_copy(update={"peers": (networks.student,)})
        return self
