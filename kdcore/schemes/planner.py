"""The phases of a job: its scheme's for every seed, and the undistilled student's beside them.

What comes next is a pure function of the job and of the results so far, so a run that goes on from
a checkpoint needs to remember nothing else.
"""

from collections.abc import Sequence

from kdcore.schema import schemes as spec
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import Supervised
from kdcore.schemes import born_again, label_refinery, mutual, offline, teacher_assistant
from kdcore.schemes.base import Phase, Scheme, StudentResult, StudentSpec

SCHEMES: dict[str, Scheme] = {
    "offline": offline.SCHEME,
    "mutual": mutual.SCHEME,
    "born_again": born_again.SCHEME,
    "teacher_assistant": teacher_assistant.SCHEME,
    "label_refinery": label_refinery.SCHEME,
}


def next_phase(job: ResolvedJob, results: Sequence[StudentResult]) -> Phase | None:
    """What to train next; None when everything is done.

    The student that is delivered and the undistilled one start from the same weights, make the
    same number of steps and, where no unlabeled images join the student's, see the same views in
    the same order: what differs is the teaching alone.
    """
    if job.kind == "evaluate":
        return None
    scheme = SCHEMES[job.scheme.type]
    for seed_index, seed in enumerate(job.seeds):
        phase = scheme.next_phase(job, seed_index, seed, _scheme_results(results, seed_index))
        if phase is not None:
            return phase
        if job.evaluation.baseline and not _results_of_seed(results, seed_index, baseline=True):
            student_phase = _student_phase(
                job, seed_index, seed, _scheme_results(results, seed_index)
            )
            return Phase(
                seed_index,
                student_phase.seed,
                (_baseline_spec(job),),
                None,
                student_phase.students[0],
            )
    return None


def first_phases(job: ResolvedJob) -> list[Phase]:
    """What each seed begins with, planned before anything has been trained; of seeds that share
    their views the first one alone."""
    scheme = SCHEMES[job.scheme.type]
    indexed_seeds = enumerate(job.seeds[: len(job.view_seeds)])
    planned = [scheme.next_phase(job, seed_index, seed, []) for seed_index, seed in indexed_seeds]
    return [phase for phase in planned if phase is not None]


def _student_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase:
    """The phase that trained this seed's student, planned again from what came before it."""
    scheme = SCHEMES[job.scheme.type]
    student = scheme.select_student(results)
    earlier = [result for result in results if result.phase_index < student.phase_index]
    phase = scheme.next_phase(job, seed_index, seed, earlier)
    if phase is None:
        raise ValueError(f"phase {student.phase_index} cannot be planned again")
    return phase


def max_phases(job: ResolvedJob) -> int:
    """How many phases the job has at most."""
    of_scheme = spec.max_phases(job.scheme, has_teacher=bool(job.teachers))
    return (of_scheme + bool(job.evaluation.baseline)) * job.evaluation.seeds


def students(job: ResolvedJob, results: Sequence[StudentResult]) -> list[StudentResult]:
    """The student that each seed delivers."""
    scheme = SCHEMES[job.scheme.type]
    return [
        scheme.select_student(_scheme_results(results, seed_index))
        for seed_index in range(job.evaluation.seeds)
    ]


def baselines(results: Sequence[StudentResult]) -> list[StudentResult]:
    """The undistilled students, one a seed, or none."""
    return [result for result in results if result.role == "baseline"]


def seed_results(results: Sequence[StudentResult], seed_index: int) -> list[StudentResult]:
    """All that this seed's scheme trained, in the order of their training."""
    return _scheme_results(results, seed_index)


def last_result(results: Sequence[StudentResult], seed_index: int) -> StudentResult:
    """The network of this seed that was trained last, the undistilled one left out."""
    return _scheme_results(results, seed_index)[-1]


def _baseline_spec(job: ResolvedJob) -> StudentSpec:
    return StudentSpec("baseline", "baseline", job.student, (Supervised(type="supervised"),), 1.0)


def _scheme_results(results: Sequence[StudentResult], seed_index: int) -> list[StudentResult]:
    return _results_of_seed(results, seed_index, baseline=False)


def _results_of_seed(
    results: Sequence[StudentResult], seed_index: int, *, baseline: bool
) -> list[StudentResult]:
    of_seed = [result for result in results if result.seed_index == seed_index]
    return [result for result in of_seed if (result.role == "baseline") == baseline]
