"""``run``: verify the teachers, train every phase of the scheme, evaluate, export."""

from pathlib import Path
from typing import Any

from kdcore.data import dataset
from kdcore.protocol.requests import RunRequest
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.job import channels_of
from kdcore.schemes import planner
from kdcore.schemes.base import Result
from kdcore.training.checkpoint import Checkpoints, State
from kdcore.training.compute import device
from kdcore.training.compute.autocast_policy import Precision, Sketch
from kdcore.training.context import Task
from kdcore.training.dry_run import rehearse
from kdcore.training.finish import conclude
from kdcore.training.inputs import gathered
from kdcore.training.job_digest import digest
from kdcore.training.loop.trainer import Loop
from kdcore.training.phase_teachers import lesson
from kdcore.training.run_state import Clock, Position, Session
from kdcore.training.teacher_cache.policy import ask_all


def run(request: RunRequest, workdir: Path, events: EventWriter, stop: Stop) -> None:
    """Train, evaluate and export what ``request`` asks, going on from the workdir's checkpoint.

    Everything is told through ``events``. Raises ``Stopped``, ``NonFinite``, ``OutOfDeviceMemory``
    and ``UserFault`` as their docstrings say; a later call with the same workdir goes on.
    """
    job = request.job
    checkpoints = Checkpoints(workdir / "checkpoints", events)
    job_digest = digest(request)
    resumed = checkpoints.newest(job_digest)
    machine = _machine(request, resumed)
    session = Session(
        machine=machine,
        events=events,
        stop=stop,
        clock=Clock(job.limits, request.elapsed_s),
        checkpoints=checkpoints,
        job_digest=job_digest,
        phases=planner.most_phases(job),
    )
    chosen = _chosen(session, resumed)
    events.phase("verifying_teacher" if request.teachers else "training", chosen)
    if chosen.get("non_exact"):
        events.log("warning", _difference(session, resumed or {}))
    task = gathered(request, session, workdir, told=resumed is None)
    session.normalisation = task.normalisation
    if request.only_answers:
        _ask(session, task)
        return
    before = task.teachers.digest()
    if request.teachers:
        events.phase("training")
    if job.kind == "evaluate":
        session.results = [_as_it_is(task)]
    else:
        _train(session, task, resumed)
    if task.teachers.digest() != before:
        raise RuntimeError("training changed the teacher: its parameters or buffers differ")
    conclude(request, session, task, workdir / "artifacts")


def _machine(request: RunRequest, resumed: State | None) -> device.Machine:
    job = request.job
    # What trains nothing computes as ever, and is not timed.
    learns = job.kind == "distill" and not request.only_answers
    before: Precision | None = None if learns else "float32"
    if resumed is not None:
        before = resumed["machine"]["precision"]
    threads, sketch = request.threads, _sketch(request)
    return device.prepare(request.device, threads, job.training, sketch, before)


def _sketch(request: RunRequest) -> Sketch:
    student = request.job.student
    info = dataset.load(Path(request.dataset.path)).info
    channels = channels_of(student.channels, info.in_channels)
    return Sketch(student.network, len(info.classes), channels, info.image_size)


def _chosen(session: Session, resumed: State | None) -> dict[str, Any]:
    chosen = session.machine.chosen()
    if resumed is not None:
        chosen["resumed_from_step"] = resumed["step"]
        chosen["non_exact"] = resumed["machine"] != session.machine.chosen()
    return chosen


def _difference(session: Session, resumed: State) -> str:
    then, now = resumed["machine"], session.machine.chosen()
    parts = [
        f"{name} was {then.get(name)}, is {value}"
        for name, value in now.items()
        if then.get(name) != value
    ]
    return (
        "this run goes on from a checkpoint of another machine, so its numbers may differ in the "
        f"last digits: {'; '.join(parts)}"
    )


def _train(session: Session, task: Task, resumed: State | None) -> None:
    """Every phase that the checkpoint does not hold as finished; a checkpoint after each."""
    current = None
    if resumed is not None:
        session.restore(resumed)
        current = resumed["current"]
    else:
        rehearse(task, session.machine)
    session.begin()
    while (phase := planner.next_phase(task.job, session.results)) is not None:
        loop = Loop(session, task, phase, lesson(session, task, phase))
        if current is not None:
            loop.restore(current)
            current = None
        results, metrics = loop.run()
        here = loop.position
        session.finish(results, here.step, here.epoch)
        session.save(None, Position(0, here.steps, here.epochs), metrics)


def _ask(session: Session, task: Task) -> None:
    """Have what each seed of the job first asks its teachers kept: later runs find it."""
    session.events.phase("asking_teacher")
    phases = planner.first_phases(task.job)
    if not phases:
        raise ValueError("a job without a phase asks nothing")
    for phase in phases:
        loop = Loop(session, task, phase, lesson(session, task, phase))
        epochs = range(1, task.job.training.epochs + 1)
        ask_all(loop.kept, map(loop.loader.turn, epochs), session)
    session.events.report(session.tally.told())


def _as_it_is(task: Task) -> Result:
    """The model that is evaluated, in the place of a student that was trained."""
    if task.init is None:
        raise ValueError("an evaluation needs the model's weights")
    return Result(
        phase=0,
        number=0,
        role="student",
        name="student",
        student=task.job.student,
        best_epoch=0,
        best_val_top1=0.0,
        last_val_top1=0.0,
        weights=task.init,
    )
