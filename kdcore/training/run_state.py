"""What one run of the engine carries through all of its trainings."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kdcore.protocol.events import Progress
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.errors import UserError
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.catalog import Normalization
from kdcore.schema.job import JobLimits, ResolvedStudent
from kdcore.schemes.base import StudentResult
from kdcore.training.checkpoint import Checkpoints, CheckpointSchedule, StateDict
from kdcore.training.compute.device import ComputeEnv
from kdcore.training.teacher_cache.provider import TeacherCacheStats


class PhasePosition(NamedTuple):
    """A place in a phase."""

    step: int
    steps: int
    epochs: int

    @property
    def epoch(self) -> float:
        """Epochs done, with the part of the one at work."""
        return self.step * self.epochs / self.steps


class TimeBudget:
    """Seconds that the job took, earlier runs included, against its limits."""

    def __init__(self, limits: JobLimits, elapsed_s: float) -> None:
        self._limits = limits
        self._origin = time.monotonic() - elapsed_s

    def check(self) -> None:
        """Raise ``UserFault`` when a limit is passed. A run holds its device all the time."""
        spent = time.monotonic() - self._origin
        if self._limits.wall_s is not None and spent > self._limits.wall_s:
            raise UserError(
                "deadline_exceeded",
                f"the job's limit of {self._limits.wall_s:g} s has passed, training is not done",
                hint="Raise limits.wall_s and go on, or train fewer epochs or a smaller student.",
            )
        if self._limits.device_s is not None and spent > self._limits.device_s:
            raise UserError(
                "budget_exhausted",
                f"the job's {self._limits.device_s:g} s of a device are used up",
                hint="Raise limits.device_s and go on, or train fewer epochs or a smaller student.",
            )


@dataclass
class RunState:
    """The run: where it computes, whom it tells, what is finished, and when it must stop."""

    compute_env: ComputeEnv
    events: EventWriter
    cancellation: CancellationToken
    time_budget: TimeBudget
    checkpoints: Checkpoints
    job_digest: str
    max_phases: int
    """How many the job has at most."""
    normalization: Normalization | None = None
    """By which the student wants its images: who goes on from a checkpoint must know."""
    results: list[StudentResult] = field(default_factory=list)
    phases_done: int = 0
    steps_before: int = 0
    """Steps of the phases that are done."""
    epochs_before: float = 0.0
    previous_wall_s: float = 0.0
    """Seconds of training that are in the checkpoint which this run went on from."""
    checkpoint_schedule: CheckpointSchedule = field(default_factory=CheckpointSchedule)
    teacher_cache_stats: TeacherCacheStats = field(default_factory=TeacherCacheStats)
    """What keeping the teachers' answers was good for in this run."""
    _started: float = field(default_factory=time.monotonic)
    _steps_this_run: int = 0

    def check_cancelled(self) -> None:
        """Between two batches: stop if asked to, or if a limit of the job is passed."""
        self.cancellation.check_cancelled()
        self.time_budget.check()

    def start_timer(self) -> None:
        """Training starts now: what came before is not in its time."""
        self._started = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds since the first training began, pauses between runs left out."""
        return self.previous_wall_s + time.monotonic() - self._started

    def count_step(self) -> None:
        """One more step is done, for the estimate of the time left."""
        self._steps_this_run += 1

    def finish_phase(self, results: Sequence[StudentResult], steps: int, epochs: float) -> None:
        """A phase is done after so many of its own steps and epochs."""
        self.results += results
        self.phases_done += 1
        self.steps_before += steps
        self.epochs_before += epochs

    def save_checkpoint(
        self, current: StateDict | None, position: PhasePosition, metrics: dict[str, float]
    ) -> None:
        """Write a checkpoint of everything; ``current`` is the unfinished phase's part."""
        started = time.monotonic()
        step, epoch = self.steps_before + position.step, self.epochs_before + position.epoch
        state = {
            "job_digest": self.job_digest,
            "machine": self.compute_env.as_dict(),
            "step": step,
            "wall_s": self.wall_s,
            "normalization": self.normalization and self.normalization.model_dump(),
            "results": [_result_to_dict(result) for result in self.results],
            "phases_done": self.phases_done,
            "steps_before": self.steps_before,
            "epochs_before": self.epochs_before,
            "current": current,
        }
        self.checkpoints.save(state, step=step, epoch=epoch, metrics=metrics)
        self.checkpoint_schedule.record_save(started)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`save` wrote."""
        self.results = [_result_from_dict(result) for result in state_dict["results"]]
        self.phases_done = state_dict["phases_done"]
        self.steps_before, self.epochs_before = (
            state_dict["steps_before"],
            state_dict["epochs_before"],
        )
        self.previous_wall_s = state_dict["wall_s"]

    def log_metrics(self, position: PhasePosition, values: dict[str, float]) -> None:
        """Tell ``values`` at a place of the phase that is at work."""
        steps_done = self.steps_before + position.step
        phases_left = self.max_phases - self.phases_done
        total = self.steps_before + phases_left * position.steps
        seconds_per_step = (time.monotonic() - self._started) / max(1, self._steps_this_run)
        self.events.metrics(
            position.step,
            position.epoch,
            values,
            wall_s=self.wall_s,
            progress=Progress(
                epoch=int(self.epochs_before + position.epoch),
                epochs=int(self.epochs_before) + phases_left * position.epochs,
                step=steps_done,
                steps=total,
                fraction=steps_done / total,
            ),
            eta_s=(total - steps_done) * seconds_per_step if self._steps_this_run else None,
        )


def _result_to_dict(result: StudentResult) -> dict[str, Any]:
    return vars(result) | {"student": result.student.model_dump(mode="json")}


def _result_from_dict(data: dict[str, Any]) -> StudentResult:
    student = ResolvedStudent.model_validate(data["student"])
    return StudentResult(**data | {"student": student})
