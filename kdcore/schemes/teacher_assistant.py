"""Teacher assistants: Mirzadeh et al. 2020, https://arxiv.org/abs/1902.03393.

A chain from the teacher over one or more assistants to the student, each taught by the one before.
"""

from collections.abc import Sequence

from kdcore.schema.job import ResolvedJob, ResolvedStudent
from kdcore.schema.schemes import TeacherAssistant
from kdcore.schemes.base import Phase, Pupil, Result, Scheme, latest, pupil_of


def next_phase(job: ResolvedJob, number: int, seed: int, done: Sequence[Result]) -> Phase | None:
    """The next assistant, from the teacher's side; after the last one the student."""
    names, place = assistants(job), len(done)
    if place > len(names):
        return None
    pupil = pupil_of(job)
    if place < len(names):
        network = ResolvedStudent(
            architecture=names[place],
            num_classes=job.student.num_classes,
            channels=job.student.channels,
        )
        name = f"assistant{place + 1}"
        pupil = Pupil("assistant", name, network, job.method, job.label_weight)
    return Phase(number, seed, (pupil,), "last" if done else "job")


def assistants(job: ResolvedJob) -> tuple[str, ...]:
    """Names of the assistants' architectures, from the teacher's side to the student's."""
    if not isinstance(job.scheme, TeacherAssistant) or job.scheme.assistants is None:
        raise ValueError(f"not a resolved job with assistants: {job.scheme!r}")
    return job.scheme.assistants


SCHEME = Scheme(next_phase, latest)
