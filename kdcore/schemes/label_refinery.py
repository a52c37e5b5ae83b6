"""Label Refinery: Bagherinezhad et al. 2018, https://arxiv.org/abs/1805.02641.

The last network gives every view a soft label, and the next network learns from these labels
only, without the true ones. Rounds go on while validation top-1 improves.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdcore.data.rng import derive_key
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import AnyMethod
from kdcore.schema.methods.kd import KD
from kdcore.schema.methods.supervised import Supervised
from kdcore.schema.schemes.label_refinery import LabelRefinery
from kdcore.schemes.base import Phase, Scheme, StudentResult, job_student_spec

_ROUND_STREAM = 6
"""RNG stream for the seeds of the rounds."""


def next_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase | None:
    """The labeler if the job has no teacher, then rounds until one brings no improvement."""
    scheme = _params(job)
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
    round_seed = derive_key(seed, _ROUND_STREAM, round_index) >> 1
    return Phase(seed_index, round_seed, (student_spec,), "last")


def round_methods(job: ResolvedJob) -> tuple[AnyMethod, ...]:
    """Methods of a round: the job's, and cross-entropy with the soft labels (T = 1) if none of
    them trains the classifier."""
    teacher_methods = job_student_spec(job).teacher_methods
    if any(method.teaches_classifier for method in teacher_methods):
        return teacher_methods
    # KL and cross-entropy with the same soft labels differ by a constant.
    return (*teacher_methods, KD(type="kd", temperature=1.0, weight=1.0))


def select_student(results: Sequence[StudentResult]) -> StudentResult:
    """The round with the best validation top-1, the earliest on ties."""
    rounds = [result for result in results if result.role != "labeler"]
    return max(rounds, key=lambda result: result.best_val_top1)


def _stopped_improving(results: Sequence[StudentResult], min_gain: float) -> bool:
    """Whether the last round was no better than the network that labeled its images."""
    if len(results) < 2:
        return False
    gain = results[-1].best_val_top1 - results[-2].best_val_top1
    return gain <= min_gain


def _params(job: ResolvedJob) -> LabelRefinery:
    if not isinstance(job.scheme, LabelRefinery):
        raise ValueError(f"not a label refinery: {job.scheme!r}")  # noqa: TRY004 - a caller's bug
    return job.scheme


SCHEME = Scheme(next_phase, select_student)
