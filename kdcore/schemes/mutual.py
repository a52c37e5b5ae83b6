"""Deep Mutual Learning: Zhang et al. 2018, https://arxiv.org/abs/1706.00384.

A cohort learns together: each adds to its own loss the mean over its peers of KL(peer ‖ self) at
T = 1, the peers' logits taken as constants, from one forward pass of everyone on the same views.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdcore.schema.job import ResolvedJob, ResolvedStudent
from kdcore.schema.methods import KD, AnyMethod, Supervised
from kdcore.schema.schemes import Mutual
from kdcore.schemes.base import Phase, Scheme, StudentResult, job_student_spec

_SUPERVISED = (Supervised(type="supervised"),)
_KL = (KD(type="kd", temperature=1.0, weight=1.0),)


def next_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase | None:
    """The whole cohort, once; the job's student is its first."""
    if results:
        return None
    scheme = job.scheme
    if not isinstance(scheme, Mutual):
        raise ValueError(f"not a mutual job: {scheme!r}")  # noqa: TRY004 - a bug, no type
    methods, peer_methods = split_methods(job)
    first = replace(
        job_student_spec(job), methods=methods, peer_methods=peer_methods, peer_weight=scheme.weight
    )
    peers = tuple(
        replace(first, role="peer", name=f"peer{index}", student=network)
        for index, network in enumerate(_peer_networks(job.student, scheme), start=1)
    )
    return Phase(seed_index, seed, (first, *peers))


def split_methods(job: ResolvedJob) -> tuple[tuple[AnyMethod, ...], tuple[AnyMethod, ...]]:
    """What a pupil learns from the teacher or the labels, and what from each of its peers."""
    has_teacher_methods = any(method.type != "supervised" for method in job.method)
    if job.teachers or not has_teacher_methods:
        return job.method, _KL
    return _SUPERVISED, job.method


def _peer_networks(student: ResolvedStudent, scheme: Mutual) -> list[ResolvedStudent]:
    """The named architectures as they are, whatever is derived; without names one more student."""
    if scheme.peers is None:
        return [student]
    classes, channels = student.num_classes, student.channels
    return [
        ResolvedStudent(architecture=name, num_classes=classes, channels=channels)
        for name in scheme.peers
    ]


def select_student(results: Sequence[StudentResult]) -> StudentResult:
    """The job's own student, whatever its peers reached."""
    return next(result for result in results if result.role == "student")


SCHEME = Scheme(next_phase, select_student)
