"""Teacher assistants: Mirzadeh et al. 2020, https://arxiv.org/abs/1902.03393.

A chain from the teacher through one or more assistants to the student. Each network is taught by
the one before it.
"""

from collections.abc import Sequence

from kdcore.schema.job import ResolvedJob, ResolvedStudent
from kdcore.schema.schemes.teacher_assistant import TeacherAssistant
from kdcore.schemes.base import (
    Phase,
    Scheme,
    StudentResult,
    StudentSpec,
    job_student_spec,
    select_last,
)


def next_phase(
    job: ResolvedJob, seed_index: int, seed: int, results: Sequence[StudentResult]
) -> Phase | None:
    """The next assistant, largest first; after the last one the student."""
    names, index = assistants(job), len(results)
    if index > len(names):
        return None
    student_spec = job_student_spec(job)
    if index < len(names):
        network = ResolvedStudent(
            architecture=names[index],
            num_classes=job.student.num_classes,
            channels=job.student.channels,
        )
        name = f"assistant{index + 1}"
        student_spec = StudentSpec(
            "assistant", name, network, job.method, job.label_weight, random_init=True
        )
    return Phase(seed_index, seed, (student_spec,), "last" if results else "job")


def assistants(job: ResolvedJob) -> tuple[str, ...]:
    """Architectures of the assistants, in the order of their training."""
    if not isinstance(job.scheme, TeacherAssistant) or job.scheme.assistants is None:
        raise ValueError(f"not a resolved job with assistants: {job.scheme!r}")
    return job.scheme.assistants


SCHEME = Scheme(next_phase, select_last)
