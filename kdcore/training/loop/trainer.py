"""The one training loop: every scheme's every phase goes through it."""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdcore.data.rng import derive_key
from kdcore.evaluation import metrics
from kdcore.methods.base import Batch
from kdcore.models.predict_logits import predict
from kdcore.runtime.errors import NonFiniteError, RunCancelledError
from kdcore.schemes.base import Phase, StudentResult
from kdcore.training.checkpoint import StateDict
from kdcore.training.context import JobContext
from kdcore.training.loop import optim
from kdcore.training.loop.builder import build_student_group
from kdcore.training.loop.early_stopping import BestEpoch, EarlyStopper, Throughput
from kdcore.training.loop.loss_meter import LossMeter
from kdcore.training.loop.nonfinite import nonfinite_error
from kdcore.training.phase_teachers import PhaseTeachers
from kdcore.training.run_state import PhasePosition, RunState
from kdcore.training.teacher_cache.policy import build_teacher_cache

_STEP_STREAM = 4
"""Stream of a seed for the global generators: dropout and the like."""
_POINTS_PER_EPOCH, _MAX_POINTS = 20, 1000
"""Of a curve, at most: more than that nobody sees, and each is rows in a database."""


class Trainer:
    """One phase from wherever its checkpoint stands to its last epoch."""

    def __init__(
        self, run_state: RunState, context: JobContext, phase: Phase, phase_teachers: PhaseTeachers
    ) -> None:
        self._run_state, self._context, self._phase, self._phase_teachers = (
            run_state,
            context,
            phase,
            phase_teachers,
        )
        training = context.job.training
        device = run_state.compute_env.device
        self._training = training
        self.loader = context.build_loader(phase.seed, phase.students[0], device)
        self._steps_per_epoch = context.steps_per_epoch(phase.budget_student or phase.students[0])
        self.total_steps = training.epochs * self._steps_per_epoch
        min_intervals = self._steps_per_epoch / _POINTS_PER_EPOCH, self.total_steps / _MAX_POINTS
        self._log_interval = math.ceil(max(min_intervals))
        samples = (self.loader.targets, self.total_steps)
        self.student_group = build_student_group(
            context, phase, phase_teachers.teachers, run_state.compute_env, samples
        )
        live, loader = self.student_group.teacher_outputs, self.loader
        self.teacher_cache = build_teacher_cache(
            run_state, context, phase_teachers.teachers, live, loader
        )
        self.student_group.teacher_outputs = self.teacher_cache or live
        self._loss_meters = [LossMeter(device) for _ in phase.students]
        self._throughput = Throughput()
        self._early_stopper = EarlyStopper(training.early_stopping)
        self._step = 0
        self._validated_epochs = 0
        self._last_metrics: list[dict[str, float]] = [{} for _ in phase.students]
        self._best: list[BestEpoch | None] = [None for _ in phase.students]

    def run(self) -> tuple[list[StudentResult], dict[str, float]]:
        """Train to the end; return the results and the last validation's metrics.

        Raises ``Stopped`` with a checkpoint, ``NonFinite``, ``UserFault``."""
        self.student_group.train()
        while True:
            if self._step == (self._validated_epochs + 1) * self._steps_per_epoch:
                self._validate()
            if self._step == self.total_steps or self._should_stop_early():
                break
            self._before_step()
            self._train_step()
        self._check_finite()
        self.student_group.close()
        return [self._result(index) for index in range(len(self._best))], self._metrics_by_name()

    def _should_stop_early(self) -> bool:
        if not (self._at_epoch_end() and self._early_stopper.exhausted):
            return False
        self._run_state.events.log(
            "info",
            f"the {self._phase.title} no longer improves: stopped after epoch "
            f"{self._validated_epochs} of "
            f"{self._training.epochs}",
        )
        return True

    def _before_step(self) -> None:
        try:
            self._run_state.check_cancelled()
            if self.teacher_cache is not None:
                view = self.loader.view_of_epoch(self._step // self.loader.steps_per_epoch + 1)
                self.teacher_cache.prepare_view(
                    view, self._run_state.check_cancelled, self._run_state.events
                )
        except RunCancelledError:
            self._save_checkpoint()
            raise
        if self._run_state.checkpoint_schedule.is_due(epoch_ended=self._at_epoch_end()):
            self._save_checkpoint()

    def _at_epoch_end(self) -> bool:
        return self._step > 0 and self._step == self._validated_epochs * self._steps_per_epoch

    def _train_step(self) -> None:
        started = time.perf_counter()
        views, batch = self._batch(self._step)
        self._throughput.data_s += time.perf_counter() - started
        torch.manual_seed(derive_key(self._phase.seed, _STEP_STREAM, self._step))
        losses_by_student = self.student_group.compute_gradients(views, batch, self._warn)
        for meter, row in zip(self._loss_meters, losses_by_student, strict=True):
            meter.add(self._step + 1, row.names, row.values, len(views))
        if losses_by_student[0].values.device.type == "cpu":
            # Looking costs nothing here, so that the update is never made from a broken loss.
            self._check_losses()
        lr = self._lr()
        self.student_group.update(lr)
        self._step += 1
        self._run_state.count_step()
        self._throughput.samples += len(views)
        if self._step % self._steps_per_epoch % self._log_interval == 0:
            self._check_losses()
            losses = [meter.read_and_reset() for meter in self._loss_meters]
            self._throughput.busy_s += time.perf_counter() - started
            losses[0] |= {
                "train/lr": lr,
                **self._throughput.read_and_reset(self._run_state.compute_env.device),
            }
            self._log_metrics(losses)
        else:
            self._throughput.busy_s += time.perf_counter() - started

    def _batch(self, step: int) -> tuple[Tensor, Batch]:
        # On another's budget it may have begun with its images anew before the epoch ends.
        loader_epochs, batch_index = divmod(step, self.loader.steps_per_epoch)
        views = self.loader.batch(loader_epochs + 1, batch_index)
        epoch = step // self._steps_per_epoch + 1
        batch = Batch(views.target, views.index, epoch, step + 1, views.mix, views.view)
        return views.images, batch

    def _lr(self) -> float:
        training = self._training
        scale = optim.lr_factor(
            training.schedule, self._step, self._steps_per_epoch, training.epochs
        )
        return training.optimizer.lr * scale

    def _validate(self) -> None:
        try:
            values = [self._validation_metrics(index) for index in range(len(self._last_metrics))]
        except RunCancelledError:
            self._save_checkpoint()
            raise
        self.student_group.train()
        self._last_metrics = values
        self._validated_epochs += 1
        for index, student in enumerate(self.student_group.students):
            top1, best = values[index]["val/top1"], self._best[index]
            if best is None or top1 > best.top1:
                self._best[index] = BestEpoch(self._validated_epochs, top1, student.weights())
        if not self.student_group.students[0].is_warming_up(self._step):
            # While only adapters or early layers learn, nobody can expect better answers.
            self._early_stopper.update(values[0]["val/top1"])
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
        return metrics.validation_metrics(
            logits, dataset.targets("val"), self._phase_teachers.val_logits
        )

    def _check_losses(self) -> None:
        for student_index, meter in enumerate(self._loss_meters):
            nonfinite = meter.first_nonfinite()
            if nonfinite is not None:
                torch.manual_seed(derive_key(self._phase.seed, _STEP_STREAM, nonfinite.step - 1))
                views, batch = self._batch(nonfinite.step - 1)
                raise nonfinite_error(
                    self.student_group, student_index, views, batch, nonfinite, self._phase
                )

    def _check_finite(self) -> None:
        """Raise ``NonFinite`` before broken weights are kept anywhere."""
        self._check_losses()
        if not self.student_group.is_finite():
            raise NonFiniteError(
                f"the weights of the {self._phase.title} are not finite after step {self._step}; "
                "the loss was, so its gradient was not"
            )

    def _save_checkpoint(self) -> None:
        self._check_finite()
        self._run_state.save_checkpoint(self.state_dict(), self.position, self._metrics_by_name())

    @property
    def position(self) -> PhasePosition:
        """How far this phase is."""
        return PhasePosition(self._step, self.total_steps, self._training.epochs)

    def _result(self, student_index: int) -> StudentResult:
        student_spec, best = self._phase.students[student_index], self._best[student_index]
        if best is None:
            raise ValueError("a training of no epochs has no result")
        return StudentResult(
            phase_index=self._run_state.phases_done,
            seed_index=self._phase.seed_index,
            role=student_spec.role,
            name=student_spec.name,
            student=student_spec.student,
            best_epoch=best.epoch,
            best_val_top1=best.top1,
            last_val_top1=self._last_metrics[student_index]["val/top1"],
            weights=best.weights,
        )

    def state_dict(self) -> StateDict:
        """This training's part of a checkpoint."""
        return {
            "role": self._phase.students[0].role,
            "seed_index": self._phase.seed_index,
            "cohort": self.student_group.state_dict(),
            "meters": [meter.state_dict() for meter in self._loss_meters],
            "patience": self._early_stopper.state_dict(),
            "step": self._step,
            "validated": self._validated_epochs,
            "last": self._last_metrics,
            "best": [None if best is None else vars(best) for best in self._best],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.student_group.load_state_dict(state_dict["cohort"])
        for meter, part in zip(self._loss_meters, state_dict["meters"], strict=True):
            meter.load_state_dict(part)
        self._early_stopper.load_state_dict(state_dict["patience"])
        self._step, self._validated_epochs = state_dict["step"], state_dict["validated"]
        self._last_metrics = state_dict["last"]
        self._best = [None if best is None else BestEpoch(**best) for best in state_dict["best"]]

    def _log_metrics(self, values: Sequence[dict[str, float]]) -> None:
        self._run_state.log_metrics(self.position, self._merge(values))

    def _metrics_by_name(self) -> dict[str, float]:
        return self._merge(self._last_metrics)

    def _merge(self, values: Sequence[dict[str, float]]) -> dict[str, float]:
        return {
            self._phase.metric_prefix(student_spec) + name: value
            for student_spec, student_metrics in zip(self._phase.students, values, strict=True)
            for name, value in student_metrics.items()
        }

    def _warn(self, message: str) -> None:
        self._run_state.events.log("warning", message)
