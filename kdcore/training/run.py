"""``run``: verify the teachers, train every phase of the scheme, evaluate, export."""

import hashlib
import json
from pathlib import Path
from typing import Any

from torch import Tensor

from kdcore.data import store
from kdcore.errors import UserFault
from kdcore.evaluation import gate
from kdcore.evaluation.predict import predict
from kdcore.evaluation.teachers import Teachers, open_model
from kdcore.files import sha256_of
from kdcore.process.events import EventWriter
from kdcore.process.stop import Stop
from kdcore.schemes import offline
from kdcore.schemes.base import Phase
from kdcore.spec.protocol import RunRequest
from kdcore.training import device
from kdcore.training.checkpoint import Checkpoints, State
from kdcore.training.loop import Loop
from kdcore.training.outcome import conclude
from kdcore.training.session import Clock, Session, result_of
from kdcore.training.task import Task

_NOT_THE_NUMBERS = {"name", "labels", "priority", "limits", "accept", "dataset", "teachers"}
"""Parts of a job that do not change its numbers, and ids of files whose bytes are counted."""


def run(request: RunRequest, workdir: Path, events: EventWriter, stop: Stop) -> None:
    """Train, evaluate and export what ``request`` asks, going on from the workdir's checkpoint.

    Everything is told through ``events``. Raises ``Stopped``, ``NonFinite``, ``OutOfDeviceMemory``
    and ``UserFault`` as their docstrings say; a later call with the same workdir goes on.
    """
    machine = device.prepare(request.device, request.threads, request.job.training)
    checkpoints = Checkpoints(workdir / "checkpoints", events)
    phases = tuple(offline.phases(request.job))
    session = Session(
        machine=machine,
        events=events,
        stop=stop,
        clock=Clock(request.job.limits, request.elapsed_s),
        checkpoints=checkpoints,
        job_digest=digest(request),
        trainings=len(phases),
    )
    resumed = checkpoints.newest(session.job_digest)
    chosen = _chosen(session, resumed)
    events.phase("verifying_teacher" if request.teachers else "training", chosen)
    if chosen.get("non_exact"):
        events.log("warning", _difference(session, resumed or {}))
    task = _verified(request, session, told=resumed is None)
    before = task.teachers.digest()
    if request.teachers:
        events.phase("training")
    _train(session, task, phases, resumed)
    if task.teachers.digest() != before:
        raise RuntimeError("training changed the teacher: its parameters or buffers differ")
    conclude(request, session, task, workdir / "artifacts")


def digest(request: RunRequest) -> str:
    """Of all that decides the numbers of a job: a checkpoint serves the job of its digest."""
    job = request.job.model_dump(mode="json", exclude=_NOT_THE_NUMBERS)
    parts = {
        "job": job,
        "dataset": request.dataset.sha256,
        "teachers": [t.model_dump(mode="json", exclude={"path"}) for t in request.teachers],
        "init": request.init.sha256 if request.init else None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


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


def _verified(request: RunRequest, session: Session, *, told: bool) -> Task:
    """Open data and models; let the teachers through the gate."""
    data = store.load(Path(request.dataset.path))
    if sha256_of(Path(request.dataset.path)) != request.dataset.sha256:
        raise UserFault("dataset_invalid", "the data set is not the one that was ingested")
    teachers = Teachers(request.teachers, session.machine.device)
    init = request.init
    weights = open_model(init, "student_incompatible").state_dict() if init else None
    logits = _gated(request, session, data, teachers, told=told)
    return Task(
        job=request.job,
        store=data,
        teachers=teachers,
        # Given weights were trained behind their own normalisation.
        normalisation=init.normalisation if init else data.info.normalisation,
        init=weights,
        teacher_val=logits,
    )


def _gated(
    request: RunRequest,
    session: Session,
    data: store.DatasetStore,
    teachers: Teachers,
    *,
    told: bool,
) -> Tensor | None:
    if not teachers.networks:
        return None
    target = data.targets("val")
    each = [
        predict(
            network,
            data.images("val"),
            device=session.machine.device,
            boundary=session.boundary,
            autocast=session.machine.autocast(),
        )
        for network in teachers.networks
    ]
    together = teachers.mean(each)
    if told:
        top1 = gate.hits(together, target).top1
        session.events.metrics(0, 0.0, {"teacher/top1": top1}, wall_s=0.0)
    names = [f"{file.architecture} ({file.sha256[:12]})" for file in request.teachers]
    for warning in gate.check(names, [gate.hits(logits, target) for logits in each]):
        session.events.log("warning", warning)
    return together


def _train(session: Session, task: Task, phases: tuple[Phase, ...], resumed: State | None) -> None:
    """Every phase that the checkpoint does not hold as finished; a checkpoint after each."""
    current = None
    if resumed is not None:
        session.results = [result_of(result) for result in resumed["results"]]
        session.earlier_s = resumed["wall_s"]
        current = resumed["current"]
    session.begin()
    for phase in phases[len(session.results) :]:
        loop = Loop(session, task, phase)
        if current is not None:
            loop.restore(current)
            current = None
        result, metrics = loop.run()
        session.results.append(result)
        done = len(session.results) * loop.steps
        session.save(
            None, step=done, epoch=done / loop.steps * task.job.training.epochs, metrics=metrics
        )
