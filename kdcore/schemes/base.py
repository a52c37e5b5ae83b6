"""Types that every scheme shares: the phases it plans and the results it receives."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

from kdcore.schema.job import ResolvedJob, ResolvedStudent
from kdcore.schema.methods import AnyMethod, Need

Role = Literal["student", "baseline", "peer", "generation", "assistant", "labeler", "round"]
STUDENT_ROLES: tuple[Role, ...] = ("student", "round")
"""Roles of networks that a job may deliver."""


@dataclass(frozen=True)
class StudentSpec:
    """A network to train in a phase: its architecture, its methods and its initial weights."""

    role: Role
    name: str
    """Name in messages and, except for the job's student, the prefix of its metrics."""
    student: ResolvedStudent
    methods: tuple[AnyMethod, ...]
    label_weight: float | Literal["auto"]
    """Weight of cross-entropy with the true labels; `auto` is found beside the methods' weights."""
    peer_methods: tuple[AnyMethod, ...] = ()
    """Methods that compare it with each other student of its phase."""
    peer_weight: float = 1.0
    """Factor of the mean loss over the peers."""
    random_init: bool = False
    """Whether it always starts from random weights, even if the job names initial weights."""

    @property
    def teacher_methods(self) -> tuple[AnyMethod, ...]:
        """Its methods that learn from a teacher."""
        return tuple(method for method in self.methods if method.uses_teacher)

    @property
    def needs(self) -> frozenset[Need]:
        """Everything that its methods read from outputs and batches."""
        methods = (*self.methods, *self.peer_methods)
        return frozenset[Need]().union(*(method.needs for method in methods))

    @property
    def learns_from_unlabeled(self) -> bool:
        """Whether it can train on images without labels.

        At least one of its methods must learn from them and no method may need labels or sample
        ids. Methods without a teacher skip images without labels, so they do not count.
        """
        peer_methods = [method for method in self.peer_methods if method.uses_teacher]
        methods = [*self.teacher_methods, *peer_methods]
        needs_labels = any({"target", "index"} & {*method.needs} for method in methods)
        return bool(methods) and not needs_labels


@dataclass(frozen=True)
class Phase:
    """One training from first to last epoch, of one network or of several that teach each other."""

    seed_index: int
    """Index of the seed among the job's seeds, from 0."""
    seed: int
    students: tuple[StudentSpec, ...]
    teacher: Literal["job", "last"] | None = "job"
    """The job's teachers, the network of this seed that was trained last, or no teacher."""
    budget_student: StudentSpec | None = None
    """Student whose number of steps the phase takes; None takes its first student's."""

    @property
    def needs(self) -> frozenset[Need]:
        """Everything that the methods of its students read from outputs and batches."""
        return frozenset[Need]().union(*(student_spec.needs for student_spec in self.students))

    @property
    def uses_teacher(self) -> bool:
        """Whether a method of any student reads the outputs of the phase's teachers."""
        return any(student_spec.teacher_methods for student_spec in self.students)

    def metric_prefix(self, student_spec: StudentSpec) -> str:
        """Prefix of a student's metric names: empty for the job's student with the first seed."""
        seed = f"seed{self.seed_index}/" if self.seed_index else ""
        return seed + ("" if student_spec.name == "student" else f"{student_spec.name}/")

    @property
    def title(self) -> str:
        """Name of the phase in messages."""
        names = " and ".join(student_spec.name for student_spec in self.students)
        return f"{names} with seed {self.seed}"


@dataclass(frozen=True)
class StudentResult:
    """A trained network."""

    phase_index: int
    """Index of its phase in the job, from 0."""
    seed_index: int
    """Index of the seed among the job's seeds, from 0."""
    role: Role
    name: str
    student: ResolvedStudent
    best_epoch: int
    best_val_top1: float
    last_val_top1: float
    weights: dict[str, Tensor]
    """State dict of the best epoch, on the CPU."""
    lowest_val_loss: float | None = None
    """None for an untrained network, and in checkpoints of versions that did not record it."""
    last_val_loss: float | None = None
    largest_term: str | None = None
    """The term of the loss with the largest weighted value in the last steps."""
    weights_at_start: dict[str, float] = field(default_factory=dict)
    """Weights by term that the training found for `auto`, before they fall; else empty."""


class Scheme(NamedTuple):
    """Pure functions that plan the phases of one seed and select its student."""

    next_phase: Callable[[ResolvedJob, int, int, Sequence[StudentResult]], Phase | None]
    """Next phase from the job, the seed's index, the seed, and the seed's results so far
    (without its baseline); None when the seed is complete."""
    select_student: Callable[[Sequence[StudentResult]], StudentResult]
    """The network to deliver, from all results of one seed."""
    trains_ensemble: bool = False
    """Whether the networks of one seed are members of one ensemble that the report evaluates."""
    exports_ensemble: Callable[[ResolvedJob], bool] = lambda _job: False
    """Whether the job also requests the ensemble as one network."""


def job_student_spec(job: ResolvedJob) -> StudentSpec:
    """The job's student with the job's methods."""
    return StudentSpec("student", "student", job.student, job.method, job.label_weight)


def select_last(results: Sequence[StudentResult]) -> StudentResult:
    """The network that was trained last."""
    return results[-1]
