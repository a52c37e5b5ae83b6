"""Before the first step: whether every phase of a job can begin."""

from kdcore.schema.schemes import most_phases
from kdcore.schemes import planner
from kdcore.schemes.base import Phase, Result
from kdcore.training.compute.device import Machine
from kdcore.training.context import Task
from kdcore.training.loop.builder import begin
from kdcore.training.phase_teachers import teachers_of


def rehearse(task: Task, machine: Machine) -> None:
    """Begin the phases of the first seed with networks that have learned nothing; train none.

    A student that cannot be derived, started or tapped is found now, and not when its assistants
    have been trained for it. Raises ``UserFault`` as its phase would. A phase seeds whatever it
    draws, so nothing that is drawn here shows in a training.
    """
    job = task.job
    if most_phases(job.scheme, taught=bool(job.teachers)) == 1:
        return
    results: list[Result] = []
    done = 0
    while (phase := planner.next_phase(job, results)) is not None and not _repeats(phase):
        # The first one begins as soon as this is over.
        if done:
            teachers = teachers_of(task, phase, results, machine.device)
            begin(task, phase, teachers, machine, (task.store.targets("train"), 1)).close()
        results += _unlearned(task, phase, done)
        done += 1


def _repeats(phase: Phase) -> bool:
    """Whether it asks for nothing that has not been there: another seed's, or the baseline."""
    return phase.number > 0 or phase.pupils[0].role == "baseline"


def _unlearned(task: Task, phase: Phase, done: int) -> list[Result]:
    return [
        Result(
            phase=done,
            number=phase.number,
            role=pupil.role,
            name=pupil.name,
            student=pupil.student,
            best_epoch=0,
            best_val_top1=0.0,
            last_val_top1=0.0,
            weights=task.student(pupil, phase.seed, place).network.state_dict(),
        )
        for place, pupil in enumerate(phase.pupils)
    ]
