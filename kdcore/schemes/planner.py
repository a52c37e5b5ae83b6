"""The phases of a job: its scheme's for every seed, and the undistilled student's beside them.

What comes next is a pure function of the job and of the results so far, so a run that goes on from
a checkpoint needs to remember nothing else.
"""

from collections.abc import Sequence

from kdcore.schema import schemes as spec
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import Supervised
from kdcore.schemes import born_again, label_refinery, mutual, offline, teacher_assistant
from kdcore.schemes.base import Phase, Pupil, Result, Scheme

SCHEMES: dict[str, Scheme] = {
    "offline": offline.SCHEME,
    "mutual": mutual.SCHEME,
    "born_again": born_again.SCHEME,
    "teacher_assistant": teacher_assistant.SCHEME,
    "label_refinery": label_refinery.SCHEME,
}


def next_phase(job: ResolvedJob, results: Sequence[Result]) -> Phase | None:
    """What to train next; None when everything is done.

    The student that is delivered and the undistilled one start from the same weights, make the
    same number of steps and, where no unlabelled images join the student's, see the same views in
    the same order: what differs is the teaching alone.
    """
    if job.kind == "evaluate":
        return None
    scheme = SCHEMES[job.scheme.type]
    for number, seed in enumerate(job.seeds):
        phase = scheme.next_phase(job, number, seed, _taught(results, number))
        if phase is not None:
            return phase
        if job.evaluation.baseline and not _of(results, number, baseline=True):
            own = _delivering(job, number, seed, _taught(results, number))
            return Phase(number, own.seed, (_undistilled(job),), None, own.pupils[0])
    return None


def first_phases(job: ResolvedJob) -> list[Phase]:
    """What each seed begins with, planned before anything has been trained; of seeds that share
    their views the first one alone."""
    scheme = SCHEMES[job.scheme.type]
    own = enumerate(job.seeds[: len(job.view_seeds)])
    planned = [scheme.next_phase(job, number, seed, []) for number, seed in own]
    return [phase for phase in planned if phase is not None]


def _delivering(job: ResolvedJob, number: int, seed: int, done: Sequence[Result]) -> Phase:
    """The phase that trained this seed's student, planned again from what came before it."""
    scheme = SCHEMES[job.scheme.type]
    student = scheme.delivered(done)
    before = [result for result in done if result.phase < student.phase]
    phase = scheme.next_phase(job, number, seed, before)
    if phase is None:
        raise ValueError(f"phase {student.phase} cannot be planned again")
    return phase


def most_phases(job: ResolvedJob) -> int:
    """How many phases the job has at most."""
    of_scheme = spec.most_phases(job.scheme, taught=bool(job.teachers))
    return (of_scheme + bool(job.evaluation.baseline)) * job.evaluation.seeds


def students(job: ResolvedJob, results: Sequence[Result]) -> list[Result]:
    """The student that each seed delivers."""
    scheme = SCHEMES[job.scheme.type]
    return [scheme.delivered(_taught(results, n)) for n in range(job.evaluation.seeds)]


def baselines(results: Sequence[Result]) -> list[Result]:
    """The undistilled students, one a seed, or none."""
    return [result for result in results if result.role == "baseline"]


def cohort(results: Sequence[Result], number: int) -> list[Result]:
    """All that this seed's scheme trained, in the order of their training."""
    return _taught(results, number)


def last(results: Sequence[Result], number: int) -> Result:
    """The network of this seed that was trained last, the undistilled one left out."""
    return _taught(results, number)[-1]


def _undistilled(job: ResolvedJob) -> Pupil:
    return Pupil("baseline", "baseline", job.student, (Supervised(type="supervised"),), 1.0)


def _taught(results: Sequence[Result], number: int) -> list[Result]:
    return _of(results, number, baseline=False)


def _of(results: Sequence[Result], number: int, *, baseline: bool) -> list[Result]:
    of_seed = [result for result in results if result.number == number]
    return [result for result in of_seed if (result.role == "baseline") == baseline]
