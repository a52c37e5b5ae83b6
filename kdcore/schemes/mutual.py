"""Deep Mutual Learning: Zhang et al. 2018, https://arxiv.org/abs/1706.00384.

Students train together. Each adds to its loss the mean over its peers of KL(peer ‖ student) at
T = 1, with the peers' logits as constants. One forward pass of every student on the same views
gives all losses of a step.
"""

from collections.abc import Sequence
from dataclasses import replace

from kdcore.schema.job import ResolvedJob, ResolvedStudent
from kdcore.schema.methods import AnyMethod
from kdcore.schema.methods.kd import KD
from kdcore.schema.methods.supervised import Supervised
from kdcore.schema.schemes.mutual import Mutual
from kdcore.schemes.base import Phase, Scheme, StudentResult, job_student_spec

_SUPERVISED = (Supervised(type="supervised"),)
_KL = (KD(type="kd", temperature=1.0, weight=1.0),)


def next_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase | None:
    """One phase of all students; the job's student is the first of them."""
    if results:
        return None
    scheme = job.scheme
    if not isinstance(scheme, Mutual):
        raise ValueError(f"not a mutual job: {scheme!r}")  # noqa: TRY004 - a caller's bug
    methods, peer_methods = split_methods(job)
    student = replace(
        job_student_spec(job), methods=methods, peer_methods=peer_methods, peer_weight=scheme.weight
    )
    # Peers with the student's weights and views would never differ from it.
    peers = tuple(
        replace(student, role="peer", name=f"peer{index}", student=network, random_init=True)
        for index, network in enumerate(_peer_networks(job.student, scheme), start=1)
    )
    return Phase(seed_index, seed, (student, *peers))


def split_methods(job: ResolvedJob) -> tuple[tuple[AnyMethod, ...], tuple[AnyMethod, ...]]:
    """Methods for the teachers or labels, and methods for each pair of peers."""
    has_teacher_methods = bool(job_student_spec(job).teacher_methods)
    if job.teachers or not has_teacher_methods:
        return job.method, _KL
    return _SUPERVISED, job.method


def _peer_networks(student: ResolvedStudent, scheme: Mutual) -> list[ResolvedStudent]:
    """The named architectures without derivation; without names one more of the student's."""
    if scheme.peers is None:
        return [student]
    classes, channels = student.num_classes, student.channels
    return [
        ResolvedStudent(architecture=name, num_classes=classes, channels=channels)
        for name in scheme.peers
    ]


def select_student(results: Sequence[StudentResult]) -> StudentResult:
    """The job's student, whatever top-1 its peers reached."""
    return next(result for result in results if result.role == "student")


SCHEME = Scheme(next_phase, select_student, trains_ensemble=True)
