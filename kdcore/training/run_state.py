"""RunState: progress, events, checkpoints and limits of one run, across all its phases."""

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
from kdcore.training.teacher_cache.stats import TeacherCacheStats


class PhasePosition(NamedTuple):
    """A step of a phase, and the phase's length."""

    step: int
    """Completed steps."""
    steps: int
    epochs: int

    @property
    def epoch(self) -> float:
        """Completed epochs, with the completed share of the present one."""
        return self.step * self.epochs / self.steps


class TimeBudget:
    """Compares the job's time, earlier runs included, with its limits."""

    def __init__(self, limits: JobLimits, elapsed_s: float) -> None:
        self._limits = limits
        self._origin = time.monotonic() - elapsed_s

    def check(self) -> None:
        """Raise ``UserError`` if a limit is exceeded.

        A run holds its device from start to end, so both limits count the same seconds.
        """
        spent = time.monotonic() - self._origin
        if self._limits.wall_s is not None and spent > self._limits.wall_s:
            raise UserError(
                "deadline_exceeded",
                f"the job exceeded its time limit ({self._limits.wall_s:g} s) before it completed",
                hint="Raise limits.wall_s and resume, or train less or a smaller student.",
            )
        if self._limits.device_s is not None and spent > self._limits.device_s:
            raise UserError(
                "budget_exhausted",
                f"the job used its device-time limit ({self._limits.device_s:g} s)",
                hint="Raise limits.device_s and resume, or train less or a smaller student.",
            )


@dataclass
class RunState:
    """Everything that one run shares between its phases."""

    compute_env: ComputeEnv
    events: EventWriter
    cancellation: CancellationToken
    time_budget: TimeBudget
    checkpoints: Checkpoints
    job_digest: str
    max_phases: int
    """Largest number of phases that the job can have."""
    normalization: Normalization | None = None
    """The student's; stored in checkpoints for jobs that continue from them."""
    results: list[StudentResult] = field(default_factory=list)
    """Results of the completed phases."""
    phases_done: int = 0
    steps_before: int = 0
    """Steps of the completed phases."""
    epochs_before: float = 0.0
    """Epochs of the completed phases."""
    previous_wall_s: float = 0.0
    """Seconds of training before the checkpoint from which this run resumed."""
    checkpoint_schedule: CheckpointSchedule = field(default_factory=CheckpointSchedule)
    teacher_cache_stats: TeacherCacheStats = field(default_factory=TeacherCacheStats)
    quantized_teachers: list[dict[str, Any]] = field(default_factory=list)
    """For each teacher that was quantized: its agreement, and whether it was used."""
    _started: float = field(default_factory=time.monotonic)
    _steps_this_run: int = 0

    def check_cancelled(self) -> None:
        """Raise if cancellation was requested or a limit of the job is exceeded.

        Called between batches. Raises ``RunCancelledError`` or ``UserError``.
        """
        self.cancellation.check_cancelled()
        self.time_budget.check()

    def start_timer(self) -> None:
        """Start the training time: loading and teacher checks do not count."""
        self._started = time.monotonic()

    @property
    def wall_s(self) -> float:
        """Seconds of training in all runs of the job, pauses between runs excluded."""
        return self.previous_wall_s + time.monotonic() - self._started

    def count_step(self) -> None:
        """Count one step, for the estimate of the remaining time."""
        self._steps_this_run += 1

    def record_quantized_teacher(self, trial: dict[str, Any]) -> None:
        """Record a quantized teacher for the report; seeds that repeat it count once."""
        if trial not in self.quantized_teachers:
            self.quantized_teachers.append(trial)

    def teacher_details(self) -> dict[str, Any]:
        """Entries of the report's details about quantized teachers and the teacher cache."""
        quantized = (
            {"quantized_teachers": self.quantized_teachers} if self.quantized_teachers else {}
        )
        return quantized | self.teacher_cache_stats.report_details()

    def report_details(self) -> dict[str, Any]:
        """Entries of the report's details about teachers, and weights that trainings found."""
        weights = {
            result.name + (f" of seed {result.seed_index}" if result.seed_index else ""): (
                result.weights_at_start
            )
            for result in self.results
            if result.weights_at_start
        }
        return self.teacher_details() | ({"weights": weights} if weights else {})

    def finish_phase(self, results: Sequence[StudentResult], steps: int, epochs: float) -> None:
        """Record the results of a phase that ended after this number of steps and epochs."""
        self.results += results
        self.phases_done += 1
        self.steps_before += steps
        self.epochs_before += epochs

    def save_checkpoint(
        self, current: StateDict | None, position: PhasePosition, metrics: dict[str, float]
    ) -> None:
        """Write a checkpoint of the run; ``current`` is the state of an incomplete phase."""
        started = time.monotonic()
        step, epoch = self.steps_before + position.step, self.epochs_before + position.epoch
        state = {
            "job_digest": self.job_digest,
            "compute_env": self.compute_env.as_dict(),
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
        """Restore a state that :meth:`save_checkpoint` wrote."""
        self.results = [_result_from_dict(result) for result in state_dict["results"]]
        self.phases_done = state_dict["phases_done"]
        self.steps_before = state_dict["steps_before"]
        self.epochs_before = state_dict["epochs_before"]
        self.previous_wall_s = state_dict["wall_s"]

    def log_metrics(self, position: PhasePosition, values: dict[str, float]) -> None:
        """Emit ``values`` at a position of the present phase, with the progress of the job."""
        steps_done = self.steps_before + position.step
        phases_left = self.max_phases - self.phases_done
        total = self.steps_before + phases_left * position.steps
        seconds_per_step = (time.monotonic() - self._started) / max(1, self._steps_this_run)
        self.events.metrics(
            position.step,
            position.epoch,
            values,
            wall_s=self.wall_s,
            phase_epochs=position.epochs,
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
