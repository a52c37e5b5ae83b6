"""Who teaches in a phase."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdcore.models.teachers import FrozenTeacher, TeacherEnsemble, freeze
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, StudentResult
from kdcore.training.compute.quantized_teacher import apply_teacher_precision
from kdcore.training.context import JobContext
from kdcore.training.run_state import RunState

_NO_TEACHERS = TeacherEnsemble(())


@dataclass(frozen=True)
class PhaseTeachers:
    """Who teaches in a phase."""

    teachers: TeacherEnsemble
    val_logits: Tensor | None
    """The logits (N, C) on the validation split that fidelity is measured against."""


def teachers_for_phase(run_state: RunState, context: JobContext, phase: Phase) -> PhaseTeachers:
    """Who teaches in ``phase``; the untaught are compared with the job's teachers all the same."""
    compute_env = run_state.compute_env
    teachers = select_teachers(context, phase, run_state.results, compute_env.device)
    if phase.teacher != "last":
        return PhaseTeachers(
            apply_teacher_precision(run_state, context, phase, teachers), context.teacher_val_logits
        )
    logits = teachers.logits(
        context.dataset.images("val"),
        device=compute_env.device,
        check_cancelled=run_state.check_cancelled,
        autocast=compute_env.autocast(),
    )
    return PhaseTeachers(
        apply_teacher_precision(run_state, context, phase, teachers), teachers.mean(logits)
    )


def select_teachers(
    context: JobContext, phase: Phase, results: Sequence[StudentResult], device: torch.device
) -> TeacherEnsemble:
    """The job's teachers, or the last network of ``results``, or nobody, as ``phase`` says."""
    if phase.teacher != "last":
        return context.teachers if phase.teacher else _NO_TEACHERS
    previous = planner.last_result(results, phase.seed_index)
    return TeacherEnsemble(
        (FrozenTeacher(freeze(context.load_trained(previous), device), taps=previous.student.taps),)
    )
