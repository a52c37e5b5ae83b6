"""What one run of the engine carries through all of its trainings."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kdcore.protocol.events import Progress
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.errors import UserFault
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.catalog import Normalisation
from kdcore.schema.job import Limits, ResolvedStudent
from kdcore.schemes.base import Result
from kdcore.training.checkpoint import Cadence, Checkpoints, State
from kdcore.training.compute.device import Machine
from kdcore.training.teacher_cache.provider import Tally


class Position(NamedTuple):
    """A place in a phase."""

    step: int
    steps: int
    epochs: int

    @property
    def epoch(self) -> float:
        """Epochs done, with the part of the one at work."""
        return self.step * self.epochs / self.steps


class Clock:
    """Seconds that the job took, earlier runs included, against its limits."""

    def __init__(self, limits: Limits, elapsed_s: float) -> None:
        self._limits = limits
        self._origin = time.monotonic() - elapsed_s

    def check(self) -> None:
        """Raise ``UserFault`` when a limit is passed. A run holds its device all the time."""
        spent = time.monotonic() - self._origin
        if self._limits.wall_s is not None and spent > self._limits.wall_s:
            raise UserFault(
                "deadline_exceeded",
                f"the job's limit of {self._limits.wall_s:g} s has passed, training is not done",
                hint="Raise limits.wall_s and go on, or train fewer epochs or a smaller student.",
            )
        if self._limits.device_s is not None and spent > self._limits.device_s:
            raise UserFault(
                "budget_exhausted",
                f"the job's {self._limits.device_s:g} s of a device are used up",
                hint="Raise limits.device_s and go on, or train fewer epochs or a smaller student.",
            )


@dataclass
class Session:
    """The run: where it computes, whom it tells, what is finished, and when it must stop."""

    machine: Machine
    events: EventWriter
    stop: Stop
    clock: Clock
    checkpoints: Checkpoints
    job_digest: str
    phases: int
    """How many the job has at most."""
    normalisation: Normalisation | None = None
    """By which the student wants its images: who goes on from a checkpoint must know."""
    results: list[Result] = field(default_factory=list)
    phases_done: int = 0
    steps_before: int = 0
    """Steps of the phases that are done."""
    epochs_before: float = 0.0
    earlier_s: float = 0.0
    """Seconds of training that are in the checkpoint which this run went on from."""
    cadence: Cadence = field(default_factory=Cadence)
    tally: Tally = field(default_factory=Tally)
    """What keeping the teachers' answers was good for in this run."""
    _started: float = field(default_factory=time.monotonic)
    _steps_here: int = 0

    def boundary(self) -> None:
        """Between two batches: stop if asked to, or if a limit of the job is passed."""
        self.stop.check()
        self.clock.check()

    def begin(self) -> None:
        """Training starts now: what came before is not in its time."""
        self._started = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds since the first training began, pauses between runs left out."""
        return self.earlier_s + time.monotonic() - self._started

    def count_step(self) -> None:
        """One more step is done, for the estimate of the time left."""
        self._steps_here += 1

    def finish(self, results: Sequence[Result], steps: int, epochs: float) -> None:
        """A phase is done after so many of its own steps and epochs."""
        self.results += results
        self.phases_done += 1
        self.steps_before += steps
        self.epochs_before += epochs

    def save(self, current: State | None, here: Position, metrics: dict[str, float]) -> None:
        """Write a checkpoint of everything; ``current`` is the unfinished phase's part."""
        started = time.monotonic()
        step, epoch = self.steps_before + here.step, self.epochs_before + here.epoch
        state = {
            "job_digest": self.job_digest,
            "machine": self.machine.chosen(),
            "step": step,
            "wall_s": self.wall_s,
            "normalisation": self.normalisation and self.normalisation.model_dump(),
            "results": [_plain(result) for result in self.results],
            "phases_done": self.phases_done,
            "steps_before": self.steps_before,
            "epochs_before": self.epochs_before,
            "current": current,
        }
        self.checkpoints.save(state, step=step, epoch=epoch, metrics=metrics)
        self.cadence.written(started)

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`save` wrote."""
        self.results = [_result(each) for each in state["results"]]
        self.phases_done = state["phases_done"]
        self.steps_before, self.epochs_before = state["steps_before"], state["epochs_before"]
        self.earlier_s = state["wall_s"]

    def metrics(self, here: Position, values: dict[str, float]) -> None:
        """Tell ``values`` at a place of the phase that is at work."""
        done = self.steps_before + here.step
        left = self.phases - self.phases_done
        total = self.steps_before + left * here.steps
        pace = (time.monotonic() - self._started) / max(1, self._steps_here)
        self.events.metrics(
            here.step,
            here.epoch,
            values,
            wall_s=self.wall_s,
            progress=Progress(
                epoch=int(self.epochs_before + here.epoch),
                epochs=int(self.epochs_before) + left * here.epochs,
                step=done,
                steps=total,
                fraction=done / total,
            ),
            eta_s=(total - done) * pace if self._steps_here else None,
        )


def _plain(result: Result) -> dict[str, Any]:
    return vars(result) | {"student": result.student.model_dump(mode="json")}


def _result(plain: dict[str, Any]) -> Result:
    student = ResolvedStudent.model_validate(plain["student"])
    return Result(**plain | {"student": student})
