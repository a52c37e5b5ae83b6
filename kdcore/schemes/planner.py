"""Plan the phases of a job: for every seed those of its scheme, then its baseline.

The next phase is a pure function of the job and of the results so far, so a resumed run needs no
other memory of the plan.
"""

import functools
import importlib
from collections.abc import Sequence

from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods.supervised import Supervised
from kdcore.schemes.base import Phase, Scheme, StudentResult, StudentSpec


def scheme_of(job: ResolvedJob) -> Scheme:
    """The scheme of a job: ``SCHEME`` in the file of this package that has the type's name."""
    return _load_scheme(job.scheme.type)


@functools.cache
def _load_scheme(scheme_type: str) -> Scheme:
    scheme: Scheme = importlib.import_module(f"kdcore.schemes.{scheme_type}").SCHEME
    return scheme


def next_phase(job: ResolvedJob, results: Sequence[StudentResult]) -> Phase | None:
    """The next phase to train; None when the job is complete.

    The delivered student and its baseline start from the same weights, make the same number of
    steps and, unless the student also trains on unlabeled images, see the same views in the same
    order. They differ only in how they are taught.
    """
    if not job.trains:
        return None
    for seed_index, seed in enumerate(job.seeds):
        phase = scheme_of(job).next_phase(job, seed_index, seed, seed_results(results, seed_index))
        if phase is not None:
            return phase
        if job.evaluation.baseline and not _baseline_results(results, seed_index):
            return _baseline_phase(job, seed_index, seed, seed_results(results, seed_index))
    return None


def first_phases(job: ResolvedJob) -> list[Phase]:
    """The first phase of each seed; of seeds that share their views only the first seed's."""
    indexed_seeds = enumerate(job.seeds[: len(job.view_seeds)])
    phases = [
        scheme_of(job).next_phase(job, seed_index, seed, []) for seed_index, seed in indexed_seeds
    ]
    return [phase for phase in phases if phase is not None]


def _baseline_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase:
    """The baseline's phase, with the seed and the number of steps of the delivered student."""
    baseline = StudentSpec(
        "baseline", "baseline", job.student, (Supervised(type="supervised"),), 1.0
    )
    student_phase = _student_phase(job, seed_index, seed, results)
    return Phase(seed_index, student_phase.seed, (baseline,), None, student_phase.students[0])


def _student_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase:
    """The phase that trained this seed's student, planned again from the results before it."""
    student = scheme_of(job).select_student(results)
    earlier = [result for result in results if result.phase_index < student.phase_index]
    phase = scheme_of(job).next_phase(job, seed_index, seed, earlier)
    if phase is None:
        raise ValueError(f"phase {student.phase_index} cannot be planned again")
    return phase


def max_phases(job: ResolvedJob) -> int:
    """The largest number of phases that the job can have."""
    per_seed = job.scheme.max_phases(has_teacher=bool(job.teachers))
    return (per_seed + bool(job.evaluation.baseline)) * job.evaluation.seeds


def students(job: ResolvedJob, results: Sequence[StudentResult]) -> list[StudentResult]:
    """The delivered student of each seed."""
    return [
        scheme_of(job).select_student(seed_results(results, seed_index))
        for seed_index in range(job.evaluation.seeds)
    ]


def baselines(results: Sequence[StudentResult]) -> list[StudentResult]:
    """The baselines, one per seed; empty if the job has none."""
    return [result for result in results if result.role == "baseline"]


def seed_results(results: Sequence[StudentResult], seed_index: int) -> list[StudentResult]:
    """Results of this seed without its baseline, in the order of training."""
    return [
        result
        for result in results
        if result.seed_index == seed_index and result.role != "baseline"
    ]


def last_result(results: Sequence[StudentResult], seed_index: int) -> StudentResult:
    """This seed's most recent result, its baseline excluded."""
    return seed_results(results, seed_index)[-1]


def _baseline_results(results: Sequence[StudentResult], seed_index: int) -> list[StudentResult]:
    return [result for result in baselines(results) if result.seed_index == seed_index]
