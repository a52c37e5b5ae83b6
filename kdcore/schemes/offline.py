"""Frozen teachers teach one student: Hinton et al. 2015, https://arxiv.org/abs/1503.02531."""

from collections.abc import Sequence

from kdcore.schema.job import ResolvedJob
from kdcore.schemes.base import Phase, Scheme, StudentResult, job_student_spec, select_last


def next_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase | None:
    """One phase of the job's student."""
    return None if results else Phase(seed_index, seed, (job_student_spec(job),))


SCHEME = Scheme(next_phase, select_last)
