"""Trainer: the training loop, and its TrainState. Every phase of every scheme runs through it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdcore.data.rng import derive_key
from kdcore.evaluation import metrics
from kdcore.methods.base import Batch
from kdcore.models.predict_logits import predict
from kdcore.runtime.errors import RunCancelledError
from kdcore.schema.training_config import EarlyStopping
from kdcore.schemes.base import Phase, StudentResult
from kdcore.training.checkpoint import StateDict
from kdcore.training.context import JobContext
from kdcore.training.loop.builder import TrainingExtent, build_student_group
from kdcore.training.loop.early_stopping import EarlyStopper
from kdcore.training.loop.lr_schedule import lr_factor
from kdcore.training.loop.meters import LossMeter, Throughput
from kdcore.training.loop.nan_detection import NonFiniteDetector
from kdcore.training.loop.weight_search import search_weights
from kdcore.training.phase_teachers import PhaseTeachers
from kdcore.training.run_state import PhasePosition, RunState
from kdcore.training.teacher_cache.policy import build_teacher_cache


@dataclass
class BestEpoch:
    """The epoch with a student's best validation top-1 so far, the earliest on ties."""

    epoch: int
    top1: float
    weights: dict[str, Tensor]
    """State dict of the plain network, on the CPU."""


@dataclass
class TrainState:
    """Everything that changes during a phase except networks, optimizers and open meters."""

    early_stopper: EarlyStopper
    best: list[BestEpoch | None]
    """For each student; None before its first validation."""
    last_metrics: list[dict[str, float]]
    """For each student the metrics of the last validation."""
    lowest_val_loss: list[float]
    """For each student; infinite before its first validation."""
    last_losses: list[dict[str, float]]
    """For each student the latest point of the loss and of its unweighted terms."""
    epoch: int = 0
    """Completed epochs: trained and validated."""
    step: int = 0
    """Completed steps. While an epoch is validated, all its steps are completed but it is not."""

    @classmethod
    def initial(cls, num_students: int, early_stopping: EarlyStopping | None) -> "TrainState":
        """The state before the first step."""
        return cls(
            EarlyStopper(early_stopping),
            [None for _ in range(num_students)],
            [{} for _ in range(num_students)],
            [math.inf] * num_students,
            [{} for _ in range(num_students)],
        )

    def complete_epoch(
        self, metrics: Sequence[dict[str, float]], improved: dict[int, dict[str, Tensor]]
    ) -> None:
        """Record the ``metrics`` of each student and the weights of the ``improved`` ones."""
        self.epoch += 1
        self.last_metrics = list(metrics)
        losses = [student_metrics["val/loss"] for student_metrics in metrics]
        # NaN is no lower than anything.
        self.lowest_val_loss = [
            loss if loss < lowest else lowest
            for loss, lowest in zip(losses, self.lowest_val_loss, strict=True)
        ]
        for index, weights in improved.items():
            self.best[index] = BestEpoch(self.epoch, metrics[index]["val/top1"], weights)

    def improves(self, student_index: int, top1: float) -> bool:
        """Whether ``top1`` is better than every earlier epoch of the student."""
        best = self.best[student_index]
        return best is None or top1 > best.top1

    def state_dict(self) -> dict[str, Any]:
        """State for the checkpoint."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "best": [None if best is None else vars(best) for best in self.best],
            "last_metrics": self.last_metrics,
            "lowest_val_loss": self.lowest_val_loss,
            "last_losses": self.last_losses,
            "early_stopper": self.early_stopper.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.epoch, self.step = state_dict["epoch"], state_dict["step"]
        self.best = [None if best is None else BestEpoch(**best) for best in state_dict["best"]]
        self.last_metrics = state_dict["last_metrics"]
        # Checkpoints of version 0.1.0 have neither.
        self.lowest_val_loss = state_dict.get("lowest_val_loss", self.lowest_val_loss)
        self.last_losses = state_dict.get("last_losses", self.last_losses)
        self.early_stopper.load_state_dict(state_dict["early_stopper"])


_STEP_STREAM = 4
"""RNG stream for torch's global generators in a step, as dropout uses them."""
_POINTS_PER_EPOCH, _MAX_POINTS = 20, 1000
"""Largest number of points of a training curve. Each point becomes rows of a database."""


class Trainer:
    """Trains one phase from its first step, or from its checkpoint, to its last epoch."""

    def __init__(
        self, run_state: RunState, context: JobContext, phase: Phase, phase_teachers: PhaseTeachers
    ) -> None:
        self._run_state, self._context, self._phase = run_state, context, phase
        self._val_logits = phase_teachers.val_logits
        self._training = training = context.job.training
        device = run_state.compute_env.device
        self.loader = context.build_loader(phase.seed, phase.students[0], device)
        self._steps_per_epoch = context.steps_per_epoch(phase.budget_student or phase.students[0])
        self.total_steps = training.epochs * self._steps_per_epoch
        self._log_interval = math.ceil(
            max(self._steps_per_epoch / _POINTS_PER_EPOCH, self.total_steps / _MAX_POINTS)
        )
        teachers = phase_teachers.teachers
        self.student_group = build_student_group(
            context,
            phase,
            teachers,
            run_state.compute_env,
            TrainingExtent(self.loader.targets, self.total_steps),
        )
        self.teacher_cache = build_teacher_cache(
            run_state, context, phase, teachers, self.student_group.live_teachers, self.loader
        )
        if self.teacher_cache is not None:
            self.student_group.teacher_outputs = self.teacher_cache
        self._loss_meters = [LossMeter(device) for _ in phase.students]
        self._throughput = Throughput()
        self._nonfinite = NonFiniteDetector(
            phase, self.student_group, self._loss_meters, self._load_batch
        )
        self.state = TrainState.initial(len(phase.students), training.early_stopping)

    def run(self) -> tuple[list[StudentResult], dict[str, float]]:
        """Train to the end; return the results and the metrics of the last validation.

        Raises ``RunCancelledError`` after writing a checkpoint, ``NonFiniteError``,
        ``OutOfDeviceMemoryError`` and ``UserError``.
        """
        state = self.state
        self._find_weights()
        self.student_group.train()
        for epoch in range(state.epoch + 1, self._training.epochs + 1):
            for step in range(state.step, epoch * self._steps_per_epoch):
                self._before_step(step)
                self.train_step(step)
            self._validate()
            if state.early_stopper.exhausted and epoch < self._training.epochs:
                self._log_early_stop(epoch)
                break
        self._nonfinite.check_all(state.step)
        self.student_group.close()
        return [self._result(index) for index in range(len(state.best))], self._last_metrics()

    def _find_weights(self) -> None:
        """Search the weights that are ``auto``, unless a checkpoint had them, and log them."""
        students = self.student_group.students
        if all(student.weight_plan.is_measured for student in students):
            return
        search_weights(self.student_group, self._load_batch, self.total_steps, self._warn)
        for student_spec, weights in zip(self._phase.students, self._weights(), strict=True):
            text = ", ".join(f"{term} {weight:.4g}" for term, weight in weights.items())
            if text:
                message = f"weights of the {student_spec.name}, before they fall: {text}"
                self._run_state.events.log("info", message)
        self._log_metrics([_weight_metrics(weights) for weights in self._weights()])

    def _weights(self) -> list[dict[str, float]]:
        """For each student the weights that were found, by term."""
        return [student.weight_plan.initial_weights() for student in self.student_group.students]

    def _before_step(self, step: int) -> None:
        """Check for cancellation, load the teacher outputs, and write a checkpoint when due."""
        try:
            self._run_state.check_cancelled()
            if self.teacher_cache is not None:
                view = self.loader.view_of_epoch(step // self.loader.steps_per_epoch + 1)
                self.teacher_cache.prepare_view(
                    view, self._run_state.check_cancelled, self._run_state.events
                )
        except RunCancelledError:
            self._save_checkpoint()
            raise
        epoch_ended = step > 0 and step == self.state.epoch * self._steps_per_epoch
        if self._run_state.checkpoint_schedule.is_due(epoch_ended=epoch_ended):
            self._save_checkpoint()

    def train_step(self, step: int) -> None:
        """Train on the batch of ``step`` (from 0), and log a point of the curves if one is due."""
        compute_env = self._run_state.compute_env
        with self._throughput.measure_step():
            with self._throughput.measure_data():
                views, batch = self._load_batch(step)
            losses = self.student_group.compute_gradients(views, batch, self._warn)
            for meter, row in zip(self._loss_meters, losses, strict=True):
                meter.add(step + 1, row.names, row.values, len(views))
            if compute_env.device.type == "cpu":
                # Reading losses costs nothing on the CPU, and prevents an update from a NaN.
                self._nonfinite.check_losses()
            lr = self._lr(step)
            self.student_group.update(lr)
            self.state.step = step + 1
            self._run_state.count_step()
            self._throughput.num_samples += len(views)
            is_point = self.state.step % self._steps_per_epoch % self._log_interval == 0
            if is_point:
                self._nonfinite.check_losses()
                values = [meter.read_and_reset() for meter in self._loss_meters]
                self.state.last_losses = [dict(losses) for losses in values]
        if is_point:
            values[0] |= {
                "train/lr": lr,
                **self._throughput.read_and_reset(compute_env.device),
            }
            for student_values, student in zip(values, self.student_group.students, strict=True):
                student_values |= _weight_metrics(student.term_weights())
            self._log_metrics(values)

    def _load_batch(self, step: int) -> tuple[Tensor, Batch]:
        """The images and the batch of ``step`` (from 0); seeds torch's generators for it."""
        # With the number of steps of another student, the loader's epochs differ from the phase's.
        loader_epoch, batch_index = divmod(step, self.loader.steps_per_epoch)
        views = self.loader.batch(loader_epoch + 1, batch_index)
        epoch = step // self._steps_per_epoch + 1
        batch = Batch(views.target, views.index, epoch, step + 1, views.mix, views.view)
        torch.manual_seed(derive_key(self._phase.seed, _STEP_STREAM, step))
        return views.images, batch

    def _lr(self, step: int) -> float:
        training = self._training
        factor = lr_factor(training.schedule, step, self._steps_per_epoch, training.epochs)
        return training.optimizer.lr * factor

    def _validate(self) -> None:
        """Evaluate all students on the validation split; this completes an epoch."""
        students = self.student_group.students
        try:
            values = [self._validation_metrics(index) for index in range(len(students))]
        except RunCancelledError:
            self._save_checkpoint()
            raise
        self.student_group.train()
        improved = {
            index: student.weights()
            for index, student in enumerate(students)
            if self.state.improves(index, values[index]["val/top1"])
        }
        self.state.complete_epoch(values, improved)
        if not students[0].is_warming_up(self.state.step):
            # While only adapters or early layers train, top-1 cannot improve.
            self.state.early_stopper.update(values[0]["val/top1"])
        self._log_metrics(values)

    def _validation_metrics(self, student_index: int) -> dict[str, float]:
        dataset, compute_env = self._context.dataset, self._run_state.compute_env
        logits = predict(
            self.student_group.students[student_index].network,
            dataset.images("val"),
            device=compute_env.device,
            check_cancelled=self._run_state.check_cancelled,
            autocast=compute_env.autocast(),
        )
        return metrics.validation_metrics(logits, dataset.targets("val"), self._val_logits)

    def _save_checkpoint(self) -> None:
        self._nonfinite.check_all(self.state.step)
        self._run_state.save_checkpoint(self.state_dict(), self.position, self._last_metrics())

    @property
    def position(self) -> PhasePosition:
        """The present step of this phase, and its length."""
        return PhasePosition(self.state.step, self.total_steps, self._training.epochs)

    def _result(self, student_index: int) -> StudentResult:
        student_spec, best = self._phase.students[student_index], self.state.best[student_index]
        if best is None:
            raise ValueError("a phase without a validated epoch has no result")
        return StudentResult(
            phase_index=self._run_state.phases_done,
            seed_index=self._phase.seed_index,
            role=student_spec.role,
            name=student_spec.name,
            student=student_spec.student,
            best_epoch=best.epoch,
            best_val_top1=best.top1,
            last_val_top1=self.state.last_metrics[student_index]["val/top1"],
            weights=best.weights,
            lowest_val_loss=self.state.lowest_val_loss[student_index],
            last_val_loss=self.state.last_metrics[student_index]["val/loss"],
            largest_term=self._largest_term(student_index),
            weights_at_start=self._weights()[student_index],
        )

    def _largest_term(self, student_index: int) -> str | None:
        """The term with the largest weighted value at the latest point of the curves."""
        weights = self.student_group.students[student_index].objective.term_weights
        losses = self.state.last_losses[student_index].items()
        terms = {name.removeprefix("train/loss/"): value for name, value in losses}
        terms.pop("train/loss", None)
        return max(terms, key=lambda name: abs(weights.get(name, 1.0) * terms[name]), default=None)

    def state_dict(self) -> StateDict:
        """The phase's part of a checkpoint."""
        return {
            "role": self._phase.students[0].role,
            "seed_index": self._phase.seed_index,
            "student_group": self.student_group.state_dict(),
            "loss_meters": [meter.state_dict() for meter in self._loss_meters],
            "train_state": self.state.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""
        self.student_group.load_state_dict(state_dict["student_group"])
        for meter, part in zip(self._loss_meters, state_dict["loss_meters"], strict=True):
            meter.load_state_dict(part)
        self.state.load_state_dict(state_dict["train_state"])

    def _log_early_stop(self, epoch: int) -> None:
        self._run_state.events.log(
            "info",
            f"the {self._phase.title} no longer improves: stopped after epoch {epoch} of "
            f"{self._training.epochs}",
        )

    def _log_metrics(self, values: Sequence[dict[str, float]]) -> None:
        self._run_state.log_metrics(self.position, self._merge(values))

    def _last_metrics(self) -> dict[str, float]:
        return self._merge(self.state.last_metrics)

    def _merge(self, values: Sequence[dict[str, float]]) -> dict[str, float]:
        """The metrics of all students in one dictionary, with each student's prefix."""
        return {
            self._phase.metric_prefix(student_spec) + name: value
            for student_spec, student_metrics in zip(self._phase.students, values, strict=True)
            for name, value in student_metrics.items()
        }

    def _warn(self, message: str) -> None:
        self._run_state.events.log("warning", message)


def _weight_metrics(weights: Mapping[str, float]) -> dict[str, float]:
    return {f"train/weight/{term}": weight for term, weight in weights.items()}
