"""Born-Again Networks: Furlanello et al. 2018, https://arxiv.org/abs/1805.04770.

Generations of one architecture from fresh weights, each taught by the last. The first learns from
the job's teacher, or from labels alone where there is none.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdcore.data.rng import fold
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import Supervised
from kdcore.schema.schemes import BornAgain
from kdcore.schemes.base import Phase, Result, Scheme, latest, pupil_of

_GENERATION = 5
"""Stream of a seed for the generations' own seeds."""


def next_phase(job: ResolvedJob, number: int, seed: int, done: Sequence[Result]) -> Phase | None:
    """The next generation, until there are as many as asked for; the last is the student."""
    generations = num_generations(job)
    place = len(done) + 1
    if place > generations:
        return None
    pupil = pupil_of(job)
    if place < generations:
        pupil = replace(pupil, role="generation", name=f"generation{place}")
    if place == 1:
        if job.teachers:
            return Phase(number, seed, (pupil,), "job")
        alone = replace(pupil, methods=(Supervised(type="supervised"),), label_weight=1.0)
        return Phase(number, seed, (alone,), None)
    # Each generation has weights and views of its own: equal ones would copy what came before.
    return Phase(number, fold(seed, _GENERATION, place) >> 1, (pupil,), "last")


def num_generations(job: ResolvedJob) -> int:
    """How many generations the job asks for."""
    if not isinstance(job.scheme, BornAgain):
        raise ValueError(f"not a born-again job: {job.scheme!r}")  # noqa: TRY004 - a bug, no type
    return job.scheme.generations


SCHEME = Scheme(next_phase, latest)
