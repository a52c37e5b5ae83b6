"""Born-Again Networks: Furlanello et al. 2018, https://arxiv.org/abs/1805.04770.

Generations of one architecture from fresh weights, each taught by the last. The first learns from
the job's teacher, or from labels alone where there is none.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdcore.data.rng import derive_key
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import Supervised
from kdcore.schema.schemes import BornAgain
from kdcore.schemes.base import Phase, Scheme, StudentResult, job_student_spec, select_last

_GENERATION_STREAM = 5
"""Stream of a seed for the generations' own seeds."""


def next_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase | None:
    """The next generation, until there are as many as asked for; the last is the student."""
    generations = num_generations(job)
    generation = len(results) + 1
    if generation > generations:
        return None
    student_spec = job_student_spec(job)
    if generation < generations:
        student_spec = replace(student_spec, role="generation", name=f"generation{generation}")
    if generation == 1:
        if job.teachers:
            return Phase(seed_index, seed, (student_spec,), "job")
        supervised = replace(
            student_spec, methods=(Supervised(type="supervised"),), label_weight=1.0
        )
        return Phase(seed_index, seed, (supervised,), None)
    # Each generation has weights and views of its own: equal ones would copy what came before.
    return Phase(
        seed_index, derive_key(seed, _GENERATION_STREAM, generation) >> 1, (student_spec,), "last"
    )


def num_generations(job: ResolvedJob) -> int:
    """How many generations the job asks for."""
    if not isinstance(job.scheme, BornAgain):
        raise ValueError(f"not a born-again job: {job.scheme!r}")  # noqa: TRY004 - a bug, no type
    return job.scheme.generations


SCHEME = Scheme(next_phase, select_last)
