"""Parameters of the scheme ``teacher_assistant``, and which assistants it proposes."""

import math
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self

from pydantic import Field

from kdcore.schema.catalog import (
    PROGRAM_FORMATS,
    Architecture,
    ArchitectureName,
    architectures,
)
from kdcore.schema.schemes.base import SchemeNetworks, SchemeParams
from kdcore.schema.validation.errors import ValidationIssue
from kdcore.schema.validation.method_compatibility import TeacherStudentPair, find_incompatibility


class TeacherAssistant(SchemeParams):
    """A chain of assistants between a teacher and a much smaller student.

    Choose it where the student is less than a tenth of its teacher. Each network is taught by the
    one before it.
    """

    teacher = "required"
    paper = "https://arxiv.org/abs/1902.03393"
    networks_field = "assistants"
    teachers_meet_student = False
    teacher_reason = "assistants stand between a teacher and a student"

    type: Literal["teacher_assistant"]
    assistants: (
        Annotated[tuple[ArchitectureName, ...], Field(min_length=1, max_length=4)] | None
    ) = None
    """From the teacher's side to the student's. Null proposes them: sizes in equal ratios between
    teacher and student, of the student's family where it has one of such a size."""
    num_assistants: Annotated[int, Field(ge=1, le=4)] = 1
    """How many to propose."""

    def max_phases(self, *, has_teacher: bool) -> int:
        """One training for each assistant, and one for the student."""
        return len(self.assistants or ()) + 1

    def with_defaults(self, networks: SchemeNetworks) -> Self:
        """The job's assistants, or proposed ones, and their number."""
        assistants = self.assistants
        if assistants is None and networks.teacher and networks.student:
            ends = networks.teacher, networks.student
            assistants = propose_assistants(*ends, self.num_assistants, networks.methods)
        if assistants is None:
            return self
        return self.model_copy(update={"assistants": assistants, "num_assistants": len(assistants)})

    def issues(self, networks: SchemeNetworks) -> Iterator[ValidationIssue]:
        """One issue where no assistant can be proposed."""
        teacher, student = networks.teacher, networks.student
        if self.assistants or not teacher:
            return
        known = architectures()
        if teacher in PROGRAM_FORMATS:
            reason = "the size of a teacher from a file is not in the catalog"
        elif networks.student_is_derived or teacher not in known:
            reason = "derived networks have no known size before they are built"
        elif student in known and not propose_assistants(teacher, student, 1, networks.methods):
            reason = (
                f"the catalog has no architecture between {teacher} and {student} in size with "
                "the outputs that the methods compare"
            )
        else:
            return
        yield ValidationIssue(
            pointer="/scheme/assistants",
            code="no_assistant",
            detail=f"{reason}; name the assistants, or choose the scheme offline",
        )


def propose_assistants(
    teacher: str, student: str, num_assistants: int, methods: Iterable[str] = ()
) -> tuple[str, ...]:
    """Up to ``num_assistants`` architectures, the largest first.

    Their parameter counts step down from teacher to student in equal ratios, because Mirzadeh et
    al. 2020 (https://arxiv.org/abs/1902.03393) measured the best student with an assistant in the
    middle of such a scale. Architectures of the student's family come first, then of the teacher's,
    then all with the student's input size; each of them is compatible with all ``methods``.
    """
    known, method_names = architectures(), tuple(methods)
    big, small = known[teacher], known[student]
    between = [
        entry
        for entry in known.values()
        if small.num_params < entry.num_params < big.num_params
        and entry.min_input_size <= small.min_input_size
        and _namespace(entry) == _namespace(small)
        and all(_supports(entry, method) for method in method_names)
    ]
    families = ([e for e in between if e.family == family] for family in (small.family, big.family))
    pool = next((candidates for candidates in families if candidates), between)
    chosen: list[Architecture] = []
    for index in range(1, num_assistants + 1):
        ratio = (small.num_params / big.num_params) ** (index / (num_assistants + 1))
        remaining = [entry for entry in pool if entry not in chosen]
        if remaining:
            chosen.append(
                min(remaining, key=lambda e: abs(math.log(e.num_params / big.num_params / ratio)))
            )
    ordered = sorted(chosen, key=lambda entry: -entry.num_params)
    return tuple(entry.name for entry in ordered)


def _supports(entry: Architecture, method: str) -> bool:
    return (
        find_incompatibility(method, TeacherStudentPair(entry.name, teacher_required=False)) is None
    )


def _namespace(entry: Architecture) -> str:
    return entry.name.partition("/")[0]
