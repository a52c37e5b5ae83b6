"""Label Refinery: Bagherinezhad et al. 2018, https://arxiv.org/abs/1805.02641.

The last network labels every view softly; the next learns from those labels alone, the true ones
are not asked. Rounds go on while validation top-1 improves.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdcore.data.rng import fold
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import KD, AnyMethod, Supervised, teaches_classifier
from kdcore.schema.schemes import LabelRefinery
from kdcore.schemes.base import Phase, Result, Scheme, pupil_of

_ROUND = 6
"""Stream of a seed for the rounds' own seeds."""


def next_phase(job: ResolvedJob, number: int, seed: int, done: Sequence[Result]) -> Phase | None:
    """The labeller where the job has no teacher, then rounds while they help."""
    scheme = _scheme(job)
    if not job.teachers and not done:
        labeller = replace(
            pupil_of(job),
            role="labeller",
            name="labeller",
            methods=(Supervised(type="supervised"),),
            label_weight=1.0,
        )
        return Phase(number, seed, (labeller,), None)
    rounds = [result for result in done if result.role != "labeller"]
    if len(rounds) == scheme.max_rounds or _exhausted(done, scheme.min_gain):
        return None
    place = len(rounds) + 1
    pupil = replace(
        pupil_of(job),
        role="student" if place == 1 else "round",
        name="student" if place == 1 else f"round{place}",
        methods=refining(job),
        label_weight=0.0,
    )
    if not done:
        return Phase(number, seed, (pupil,), "job")
    return Phase(number, fold(seed, _ROUND, place) >> 1, (pupil,), "last")


def refining(job: ResolvedJob) -> tuple[AnyMethod, ...]:
    """What a round learns by: the job's methods and, where none of them reaches the classifier,
    cross-entropy with soft labels at T = 1."""
    taught = tuple(method for method in job.method if method.type != "supervised")
    if any(teaches_classifier(method) for method in taught):
        return taught
    # KL and cross-entropy with the same soft labels differ by a constant.
    return (*taught, KD(type="kd", temperature=1.0, weight=1.0))


def delivered(done: Sequence[Result]) -> Result:
    """The round with the best validation top-1, the earliest on ties."""
    rounds = [result for result in done if result.role != "labeller"]
    return max(rounds, key=lambda result: result.best_val_top1)


def _exhausted(done: Sequence[Result], min_gain: float) -> bool:
    """Whether the last round was no better than the network that labelled for it."""
    if len(done) < 2:
        return False
    gain = done[-1].best_val_top1 - done[-2].best_val_top1
    return gain <= min_gain


def _scheme(job: ResolvedJob) -> LabelRefinery:
    if not isinstance(job.scheme, LabelRefinery):
        raise ValueError(f"not a label refinery: {job.scheme!r}")  # noqa: TRY004 - a bug, no type
    return job.scheme


SCHEME = Scheme(next_phase, delivered)
