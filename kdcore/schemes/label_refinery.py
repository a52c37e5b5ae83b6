"""Label Refinery: Bagherinezhad et al. 2018, https://arxiv.org/abs/1805.02641.

The last network labels every view softly; the next learns from those labels alone, the true ones
are not asked. Rounds go on while validation top-1 improves.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdcore.data.rng import derive_key
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import KD, AnyMethod, Supervised, teaches_classifier
from kdcore.schema.schemes import LabelRefinery
from kdcore.schemes.base import Phase, Scheme, StudentResult, job_student_spec

_ROUND_STREAM = 6
"""Stream of a seed for the rounds' own seeds."""


def next_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase | None:
    """The labeler where the job has no teacher, then rounds while they help."""
    scheme = _scheme(job)
    if not job.teachers and not results:
        labeler = replace(
            job_student_spec(job),
            role="labeler",
            name="labeler",
            methods=(Supervised(type="supervised"),),
            label_weight=1.0,
        )
        return Phase(seed_index, seed, (labeler,), None)
    rounds = [result for result in results if result.role != "labeler"]
    if len(rounds) == scheme.max_rounds or _stopped_improving(results, scheme.min_gain):
        return None
    round_index = len(rounds) + 1
    student_spec = replace(
        job_student_spec(job),
        role="student" if round_index == 1 else "round",
        name="student" if round_index == 1 else f"round{round_index}",
        methods=round_methods(job),
        label_weight=0.0,
    )
    if not results:
        return Phase(seed_index, seed, (student_spec,), "job")
    return Phase(
        seed_index, derive_key(seed, _ROUND_STREAM, round_index) >> 1, (student_spec,), "last"
    )


def round_methods(job: ResolvedJob) -> tuple[AnyMethod, ...]:
    """What a round learns by: the job's methods and, where none of them reaches the classifier,
    cross-entropy with soft labels at T = 1."""
    teacher_methods = tuple(method for method in job.method if method.type != "supervised")
    if any(teaches_classifier(method) for method in teacher_methods):
        return teacher_methods
    # KL and cross-entropy with the same soft labels differ by a constant.
    return (*teacher_methods, KD(type="kd", temperature=1.0, weight=1.0))


def select_student(results: Sequence[StudentResult]) -> StudentResult:
    """The round with the best validation top-1, the earliest on ties."""
    rounds = [result for result in results if result.role != "labeler"]
    return max(rounds, key=lambda result: result.best_val_top1)


def _stopped_improving(results: Sequence[StudentResult], min_gain: float) -> bool:
    """Whether the last round was no better than the network that labeled for it."""
    if len(results) < 2:
        return False
    gain = results[-1].best_val_top1 - results[-2].best_val_top1
    return gain <= min_gain


def _scheme(job: ResolvedJob) -> LabelRefinery:
    if not isinstance(job.scheme, LabelRefinery):
        raise ValueError(f"not a label refinery: {job.scheme!r}")  # noqa: TRY004 - a bug, no type
    return job.scheme


SCHEME = Scheme(next_phase, select_student)
