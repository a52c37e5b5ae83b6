"""Frozen teachers teach one student: Hinton et al. 2015, https://arxiv.org/abs/1503.02531."""

from collections.abc import Sequence

from kdcore.schema.job import ResolvedJob
from kdcore.schemes.base import Phase, Result, Scheme, latest, pupil_of


def next_phase(job: ResolvedJob, number: int, seed: int, done: Sequence[Result]) -> Phase | None:
    """The student, once."""
    return None if done else Phase(number, seed, (pupil_of(job),))


SCHEME = Scheme(next_phase, latest)
