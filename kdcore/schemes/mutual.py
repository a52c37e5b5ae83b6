"""Deep Mutual Learning: Zhang et al. 2018, https://arxiv.org/abs/1706.00384.

A cohort learns together: each adds to its own loss the mean over its peers of KL(peer ‖ self) at
T = 1, the peers' logits taken as constants, from one forward pass of everyone on the same views.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdcore.schema.job import ResolvedJob, ResolvedStudent
from kdcore.schema.methods import KD, AnyMethod, Supervised
from kdcore.schema.schemes import Mutual
from kdcore.schemes.base import Phase, Result, Scheme, pupil_of

_SUPERVISED = (Supervised(type="supervised"),)
_KL = (KD(type="kd", temperature=1.0, weight=1.0),)


def next_phase(job: ResolvedJob, number: int, seed: int, done: Sequence[Result]) -> Phase | None:
    """The whole cohort, once; the job's student is its first."""
    if done:
        return None
    scheme = job.scheme
    if not isinstance(scheme, Mutual):
        raise ValueError(f"not a mutual job: {scheme!r}")  # noqa: TRY004 - a bug, no type
    own, among = lessons(job)
    first = replace(pupil_of(job), methods=own, peer_methods=among, peer_weight=scheme.weight)
    peers = tuple(
        replace(first, role="peer", name=f"peer{place}", student=network)
        for place, network in enumerate(_peers(job.student, scheme), start=1)
    )
    return Phase(number, seed, (first, *peers))


def lessons(job: ResolvedJob) -> tuple[tuple[AnyMethod, ...], tuple[AnyMethod, ...]]:
    """What a pupil learns from the teacher or the labels, and what from each of its peers."""
    taught = any(method.type != "supervised" for method in job.method)
    if job.teachers or not taught:
        return job.method, _KL
    return _SUPERVISED, job.method


def _peers(student: ResolvedStudent, scheme: Mutual) -> list[ResolvedStudent]:
    """The named architectures as they are, whatever is derived; without names one more student."""
    if scheme.peers is None:
        return [student]
    classes, rule = student.num_classes, student.channels
    return [
        ResolvedStudent(architecture=name, num_classes=classes, channels=rule)
        for name in scheme.peers
    ]


def delivered(done: Sequence[Result]) -> Result:
    """The job's own student, whatever its peers reached."""
    return next(result for result in done if result.role == "student")


SCHEME = Scheme(next_phase, delivered)
