"""Who teaches in a phase."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdcore.evaluation.teachers import Frozen, Teachers, frozen
from kdcore.schemes import plan
from kdcore.schemes.base import Phase, Result
from kdcore.training.eight_bits import as_asked
from kdcore.training.session import Session
from kdcore.training.task import Task

_NOBODY = Teachers(())


@dataclass(frozen=True)
class Lesson:
    """Who teaches in a phase."""

    teachers: Teachers
    val: Tensor | None
    """The logits (N, C) on the validation split that fidelity is measured against."""


def lesson(session: Session, task: Task, phase: Phase) -> Lesson:
    """Who teaches in ``phase``; the untaught are compared with the job's teachers all the same."""
    machine = session.machine
    teachers = teachers_of(task, phase, session.results, machine.device)
    if phase.teacher != "last":
        return Lesson(as_asked(session, task, phase, teachers), task.teacher_val)
    logits = teachers.logits(
        task.store.images("val"),
        device=machine.device,
        boundary=session.boundary,
        autocast=machine.autocast(),
    )
    return Lesson(as_asked(session, task, phase, teachers), teachers.mean(logits))


def teachers_of(
    task: Task, phase: Phase, results: Sequence[Result], device: torch.device
) -> Teachers:
    """The job's teachers, or the last network of ``results``, or nobody, as ``phase`` says."""
    if phase.teacher != "last":
        return task.teachers if phase.teacher else _NOBODY
    before = plan.last(results, phase.number)
    return Teachers((Frozen(frozen(task.trained(before), device), taps=before.student.taps),))
