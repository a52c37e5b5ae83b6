"""What one run of the engine carries through all of its trainings."""

import time
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from kdcore.errors import Stopped, UserFault
from kdcore.process.events import EventWriter
from kdcore.process.stop import Stop
from kdcore.schemes.base import Phase, Role
from kdcore.spec.events import Progress
from kdcore.spec.job import Limits
from kdcore.training.checkpoint import Cadence, Checkpoints, State
from kdcore.training.device import Machine


@dataclass(frozen=True)
class Result:
    """A finished training."""

    role: Role
    number: int
    best_epoch: int
    best_val_top1: float
    last_val_top1: float
    weights: dict[str, Tensor]
    """Of the best epoch, on the CPU."""


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
                hint="Raise limits.wall_s, or train fewer epochs or a smaller student.",
            )
        if self._limits.device_s is not None and spent > self._limits.device_s:
            raise UserFault(
                "budget_exhausted",
                f"the job's {self._limits.device_s:g} s of a device are used up",
                hint="Raise limits.device_s, or train fewer epochs or a smaller student.",
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
    trainings: int
    """How many the scheme has in all."""
    results: list[Result] = field(default_factory=list)
    earlier_s: float = 0.0
    """Seconds of training that are in the checkpoint which this run went on from."""
    cadence: Cadence = field(default_factory=Cadence)
    _started: float = field(default_factory=time.monotonic)
    _steps_here: int = 0

    def boundary(self) -> None:
        """Between two batches: stop if asked to, or if a limit of the job is passed."""
        if self.stop.requested:
            raise Stopped("stopped on request")
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

    def save(
        self, current: State | None, *, step: int, epoch: float, metrics: dict[str, float]
    ) -> None:
        """Write a checkpoint of everything; ``current`` is the unfinished training's part."""
        started = time.monotonic()
        state = {
            "job_digest": self.job_digest,
            "machine": self.machine.chosen(),
            "step": step,
            "wall_s": self.wall_s,
            "results": [vars(result) for result in self.results],
            "current": current,
        }
        self.checkpoints.save(state, step=step, epoch=epoch, metrics=metrics)
        self.cadence.written(started)

    def metrics(
        self, phase: Phase, step: int, epochs: int, steps: int, values: dict[str, float]
    ) -> None:
        """Tell ``values`` of ``step`` of a training of ``epochs`` epochs and ``steps`` steps."""
        done, total = len(self.results) * steps + step, self.trainings * steps
        pace = (time.monotonic() - self._started) / max(1, self._steps_here)
        self.events.metrics(
            step,
            step * epochs / steps,
            {phase.prefix + name: value for name, value in values.items()},
            wall_s=self.wall_s,
            progress=Progress(
                epoch=done * epochs // steps,
                epochs=self.trainings * epochs,
                step=done,
                steps=total,
                fraction=done / total,
            ),
            eta_s=(total - done) * pace if self._steps_here else None,
        )


def result_of(state: dict[str, Any]) -> Result:
    """A result as a checkpoint holds it."""
    return Result(**state)
