"""Before the first step: whether every phase of a job can begin."""

from kdcore.schema.schemes import max_phases
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, StudentResult
from kdcore.training.compute.device import ComputeEnv
from kdcore.training.context import JobContext
from kdcore.training.loop.builder import build_student_group
from kdcore.training.phase_teachers import select_teachers


def dry_run(context: JobContext, compute_env: ComputeEnv) -> None:
    """Begin the phases of the first seed with networks that have learned nothing; train none.

    A student that cannot be derived, started or tapped is found now, and not when its assistants
    have been trained for it. Raises ``UserFault`` as its phase would. A phase seeds whatever it
    draws, so nothing that is drawn here shows in a training.
    """
    job = context.job
    if max_phases(job.scheme, has_teacher=bool(job.teachers)) == 1:
        return
    results: list[StudentResult] = []
    phases_done = 0
    while (phase := planner.next_phase(job, results)) is not None and not _repeats(phase):
        # The first one begins as soon as this is over.
        if phases_done:
            teachers = select_teachers(context, phase, results, compute_env.device)
            build_student_group(
                context, phase, teachers, compute_env, (context.dataset.targets("train"), 1)
            ).close()
        results += _untrained_results(context, phase, phases_done)
        phases_done += 1


def _repeats(phase: Phase) -> bool:
    """Whether it asks for nothing that has not been there: another seed's, or the baseline."""
    return phase.seed_index > 0 or phase.students[0].role == "baseline"


def _untrained_results(context: JobContext, phase: Phase, phases_done: int) -> list[StudentResult]:
    return [
        StudentResult(
            phase_index=phases_done,
            seed_index=phase.seed_index,
            role=student_spec.role,
            name=student_spec.name,
            student=student_spec.student,
            best_epoch=0,
            best_val_top1=0.0,
            last_val_top1=0.0,
            weights=context.build_student(student_spec, phase.seed, index).network.state_dict(),
        )
        for index, student_spec in enumerate(phase.students)
    ]
