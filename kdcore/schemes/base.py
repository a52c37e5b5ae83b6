"""What a scheme hands to the training loop, and what it learns of the outcome."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor

from kdcore.schema.job import ResolvedJob, ResolvedStudent
from kdcore.schema.methods import AnyMethod

Role = Literal["student", "baseline", "peer", "generation", "assistant", "labeler", "round"]


@dataclass(frozen=True)
class StudentSpec:
    """A network that learns in a phase."""

    role: Role
    name: str
    """Its name in a sentence and, except for the student's, in front of its metrics."""
    student: ResolvedStudent
    methods: tuple[AnyMethod, ...]
    label_weight: float
    peer_methods: tuple[AnyMethod, ...] = ()
    """What it learns from each of the other pupils of its phase."""
    peer_weight: float = 1.0
    """What the mean over the peers is multiplied with."""


@dataclass(frozen=True)
class Phase:
    """One training of one network, or of several that teach each other, first epoch to last."""

    seed_index: int
    """Which of the job's seeds, from 0."""
    seed: int
    students: tuple[StudentSpec, ...]
    teacher: Literal["job", "last"] | None = "job"
    """Who teaches: the job's teachers, the last network of this seed that is done, or nobody."""
    budget_student: StudentSpec | None = None
    """Whose number of steps it takes, where it is not the first pupil's own."""

    def metric_prefix(self, student_spec: StudentSpec) -> str:
        """What a pupil's metrics' names start with: nothing for the student of the first seed."""
        seed = f"seed{self.seed_index}/" if self.seed_index else ""
        return seed + ("" if student_spec.name == "student" else f"{student_spec.name}/")

    @property
    def title(self) -> str:
        """Its name in a sentence."""
        return (
            f"{' and '.join(student_spec.name for student_spec in self.students)} with seed "
            f"{self.seed}"
        )


@dataclass(frozen=True)
class StudentResult:
    """A network that has learned."""

    phase_index: int
    """Which of the job's phases, from 0."""
    seed_index: int
    """Which of the job's seeds, from 0."""
    role: Role
    name: str
    student: ResolvedStudent
    best_epoch: int
    best_val_top1: float
    last_val_top1: float
    weights: dict[str, Tensor]
    """Of the best epoch, on the CPU."""


class Scheme(NamedTuple):
    """An arrangement: pure functions of the job and of what one seed has brought so far."""

    next_phase: Callable[[ResolvedJob, int, int, Sequence[StudentResult]], Phase | None]
    """From job, number and seed, and this seed's results without its baseline."""
    select_student: Callable[[Sequence[StudentResult]], StudentResult]
    """The student among one seed's finished networks."""


def job_student_spec(job: ResolvedJob) -> StudentSpec:
    """The job's student, taught as the job says."""
    return StudentSpec("student", "student", job.student, job.method, job.label_weight)


def select_last(results: Sequence[StudentResult]) -> StudentResult:
    """The network that was trained last."""
    return results[-1]
