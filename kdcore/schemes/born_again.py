"""Born-Again Networks: Furlanello et al. 2018, https://arxiv.org/abs/1805.04770.

Generations of one architecture from random weights, each taught by the generation before it. The
first one learns from the job's teachers, or from labels only if the job has no teacher.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdcore.data.rng import derive_key
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods.supervised import Supervised
from kdcore.schema.schemes.born_again import BornAgain
from kdcore.schemes.base import Phase, Scheme, StudentResult, job_student_spec, select_last

_GENERATION_STREAM = 5
"""RNG stream for the seeds of the generations."""


def next_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase | None:
    """The next generation, or None after the last one, which is the student."""
    num_generations = _params(job).generations
    generation = len(results) + 1
    if generation > num_generations:
        return None
    student_spec = job_student_spec(job)
    if generation < num_generations:
        student_spec = replace(student_spec, role="generation", name=f"generation{generation}")
    if generation == 1:
        if job.teachers:
            return Phase(seed_index, seed, (student_spec,), "job")
        supervised = replace(
            student_spec, methods=(Supervised(type="supervised"),), label_weight=1.0
        )
        return Phase(seed_index, seed, (supervised,), None)
    # Equal initial weights and views would let a generation copy the one before it.
    generation_seed = derive_key(seed, _GENERATION_STREAM, generation) >> 1
    return Phase(seed_index, generation_seed, (student_spec,), "last")


def exports_ensemble(job: ResolvedJob) -> bool:
    """Whether the job requests all generations as one network."""
    return _params(job).export_ensemble


def _params(job: ResolvedJob) -> BornAgain:
    if not isinstance(job.scheme, BornAgain):
        raise ValueError(f"not a born-again job: {job.scheme!r}")  # noqa: TRY004 - a caller's bug
    return job.scheme


SCHEME = Scheme(next_phase, select_last, trains_ensemble=True, exports_ensemble=exports_ensemble)
