"""How training is arranged: the parameters of every scheme."""

from typing import Annotated, Literal

from pydantic import Field

from kdcore.schema.base import FrozenModel
from kdcore.schema.catalog import ArchitectureName


class Offline(FrozenModel):
    """Frozen teachers teach one student: the classical arrangement."""

    type: Literal["offline"] = "offline"


class Mutual(FrozenModel):
    """A cohort of students teach each other while they learn (Deep Mutual Learning).

    Choose it where there is no teacher. Each learner adds the mean over its peers of
    KL(peer ‖ self), T = 1, from one forward pass of everyone. Methods that look at a teacher look
    at the job's teacher if it has one; if not, at each peer, and then stand in for that KL.
    Nobody waits: where a method begins with a stage of its own, what is learned from the others
    goes on beside it.
    """

    type: Literal["mutual"]
    peers: Annotated[tuple[ArchitectureName, ...], Field(min_length=1, max_length=7)] | None = None
    """The student's companions, each as its architecture is; null means one more of the student's
    own network, derived and tapped alike. Its weights are always fresh."""
    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """What the mean KL is multiplied with."""


class BornAgain(FrozenModel):
    """Generations of one architecture, each taught by the last.

    Choose it to get more out of an architecture that cannot change. The first generation learns
    from the job's teacher, or from labels alone; the last one is delivered, and the report also
    evaluates the ensemble of all generations: the mean of their probabilities.
    """

    type: Literal["born_again"]
    generations: Annotated[int, Field(ge=2, le=10)] = 3
    export_ensemble: bool = False
    """Also publish the ensemble as one network, as ONNX and as an exported program."""


class TeacherAssistant(FrozenModel):
    """A chain of assistants between a teacher and a much smaller student.

    Choose it where the student is less than a tenth of its teacher. Each network is taught by the
    one before it.
    """

    type: Literal["teacher_assistant"]
    assistants: (
        Annotated[tuple[ArchitectureName, ...], Field(min_length=1, max_length=4)] | None
    ) = None
    """From the teacher's side to the student's. Null proposes them: sizes in equal ratios between
    teacher and student, of the student's family where it has one of such a size."""
    num_assistants: Annotated[int, Field(ge=1, le=4)] = 1
    """How many to propose."""


class LabelRefinery(FrozenModel):
    """Rounds in which the last model labels every view softly and the next learns from those alone.

    Choose it where labels are noisy, or say too little of what a crop shows. The first labeler is
    the job's teacher, or a network that learned from the labels. Ends when validation top-1 no
    longer improves.
    """

    type: Literal["label_refinery"]
    max_rounds: Annotated[int, Field(ge=1, le=10)] = 3
    min_gain: Annotated[float, Field(ge=0, le=100)] = 0.0
    """Points of validation top-1 by which a round must improve on the last for another to start."""


AnyScheme = Offline | Mutual | BornAgain | TeacherAssistant | LabelRefinery
SchemeField = Annotated[AnyScheme, Field(discriminator="type")]


def max_phases(scheme: AnyScheme, *, has_teacher: bool) -> int:
    """Trainings of one seed at most, the baseline left out; ``taught`` by a teacher of the job."""
    match scheme:
        case BornAgain():
            return scheme.generations
        case TeacherAssistant():
            return len(scheme.assistants or ()) + 1
        case LabelRefinery():
            return scheme.max_rounds + (not has_teacher)
        case _:
            return 1


class SchemeEntry(FrozenModel):
    """One line of the catalog of schemes."""

    params: type[FrozenModel]
    paper: str | None
    teacher: Literal["required", "optional"]
    """Whether a job must name a teacher for methods that look at one."""


SCHEMES: dict[str, SchemeEntry] = {
    "offline": SchemeEntry(
        params=Offline, paper="https://arxiv.org/abs/1503.02531", teacher="required"
    ),
    "mutual": SchemeEntry(
        params=Mutual, paper="https://arxiv.org/abs/1706.00384", teacher="optional"
    ),
    "born_again": SchemeEntry(
        params=BornAgain, paper="https://arxiv.org/abs/1805.04770", teacher="optional"
    ),
    "teacher_assistant": SchemeEntry(
        params=TeacherAssistant, paper="https://arxiv.org/abs/1902.03393", teacher="required"
    ),
    "label_refinery": SchemeEntry(
        params=LabelRefinery, paper="https://arxiv.org/abs/1805.02641", teacher="optional"
    ),
}
