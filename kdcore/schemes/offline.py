"""Frozen teachers teach one student; beside it, the same student learns from labels alone."""

from collections.abc import Iterator

from kdcore.schemes.base import Phase
from kdcore.spec.job import ResolvedJob
from kdcore.spec.methods import Supervised

_NUM_SEEDS = 2**63


def phases(job: ResolvedJob) -> Iterator[Phase]:
    """Student, then baseline if asked for, for every seed.

    The k-th pair has the seed ``job.seed + k``. Both of a pair start from the same weights and see
    the same views in the same order: what differs is the teacher alone.
    """
    for number in range(job.evaluation.seeds):
        seed = (job.seed + number) % _NUM_SEEDS
        yield Phase("student", number, seed, job.method, job.label_weight)
        if job.evaluation.baseline:
            yield Phase("baseline", number, seed, (Supervised(type="supervised"),), 1.0)
