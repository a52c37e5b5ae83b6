"""Build every phase of a job before the first step, to find what would fail later."""

from kdcore.models.teachers import TeacherEnsemble
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, StudentResult
from kdcore.training.compute.device import ComputeEnv
from kdcore.training.context import JobContext
from kdcore.training.loop.builder import TrainingExtent, build_student_group
from kdcore.training.phase_teachers import select_teachers


def dry_run(context: JobContext, compute_env: ComputeEnv) -> None:
    """Build the phases of the first seed with untrained networks; train none.

    A student that cannot be derived, initialized or hooked fails here, before its assistants are
    trained. Raises the ``UserError`` that its phase would raise. Every phase seeds its random
    numbers, so the dry run does not change any result.
    """
    job = context.job
    if job.scheme.max_phases(has_teacher=bool(job.teachers)) == 1:
        return
    results: list[StudentResult] = []
    phases_done = 0
    while (phase := planner.next_phase(job, results)) is not None and not _repeats(phase):
        # The first phase is built right after the dry run anyway.
        if phases_done:
            teachers = select_teachers(context, phase, results, compute_env.device)
            build_student_group(
                context,
                phase,
                teachers if phase.uses_teacher else TeacherEnsemble(()),
                compute_env,
                TrainingExtent(context.dataset.targets("train"), 1),
            ).close()
        results += _untrained_results(context, phase, phases_done)
        phases_done += 1


def _repeats(phase: Phase) -> bool:
    """Whether the phase can fail only if an earlier one does: of another seed, or a baseline."""
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
