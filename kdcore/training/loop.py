"""The one training loop: every scheme's every phase goes through it."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kdcore.data.counter import fold
from kdcore.errors import NonFinite, Stopped
from kdcore.evaluation import metrics
from kdcore.evaluation.predict import predict
from kdcore.methods.base import Batch
from kdcore.schemes.base import Phase
from kdcore.training import optim
from kdcore.training.checkpoint import State
from kdcore.training.diagnosis import explain
from kdcore.training.learner import Learner
from kdcore.training.meter import Meter
from kdcore.training.session import Result, Session
from kdcore.training.start import begin
from kdcore.training.task import Task

_STEP = 4
"""Stream of a seed for the global generators: dropout and the like."""
_POINTS_PER_EPOCH = 20


@dataclass
class Best:
    """The epoch with the best validation top-1 so far, the earliest on ties."""

    epoch: int
    top1: float
    weights: dict[str, Tensor]


@dataclass
class Pace:
    """Seconds of training since the last reading, and what of it went into batches."""

    samples: int = 0
    data_s: float = 0.0
    busy_s: float = 0.0

    def read(self) -> dict[str, float]:
        """Throughput and the share of time spent on data, in percent."""
        busy = max(self.busy_s, 1e-9)
        values = {
            "train/images_per_s": self.samples / busy,
            "train/data_share": 100 * self.data_s / busy,
        }
        self.samples, self.data_s, self.busy_s = 0, 0.0, 0.0
        return values


class Loop:
    """One phase from wherever its checkpoint stands to its last epoch."""

    def __init__(self, session: Session, task: Task, phase: Phase) -> None:
        self._session, self._task, self._phase = session, task, phase
        recipe = task.job.training
        device = session.machine.device
        self._recipe = recipe
        self._loader = task.loader(phase.seed, device)
        self._per_epoch = self._loader.steps_per_epoch
        self.steps = recipe.epochs * self._per_epoch
        self._every = -(-self._per_epoch // _POINTS_PER_EPOCH)
        self.learner: Learner = begin(task, phase, session.machine)
        self._meter = Meter(device)
        self._pace = Pace()
        self._step = 0
        self._validated = 0
        self._last: dict[str, float] = {}
        self._best: Best | None = None

    def run(self) -> tuple[Result, dict[str, float]]:
        """Train to the end; return the result and the last validation's metrics.

        Raises ``Stopped`` with a checkpoint, ``NonFinite``, ``UserFault``."""
        self.learner.student.train()
        while True:
            if self._step == (self._validated + 1) * self._per_epoch:
                self._validate()
            if self._step == self.steps:
                break
            self._boundary()
            self._train()
        self._trust()
        if self._best is None:
            raise ValueError("a training of no epochs has no result")
        return self._finish(self._best), self._named(self._last)

    def _boundary(self) -> None:
        try:
            self._session.boundary()
        except Stopped:
            self._save()
            raise
        if self._session.cadence.due(epoch_ended=self._at_epoch_end()):
            self._save()

    def _at_epoch_end(self) -> bool:
        return self._step > 0 and self._step == self._validated * self._per_epoch

    def _train(self) -> None:
        started = time.perf_counter()
        views, batch = self._batch(self._step)
        self._pace.data_s += time.perf_counter() - started
        torch.manual_seed(fold(self._phase.seed, _STEP, self._step))
        names, row = self.learner.gradients(views, batch, self._warn)
        self._meter.add(self._step + 1, names, row, len(views))
        if row.device.type == "cpu":
            # Looking costs nothing here, so that the update is never made from a broken loss.
            self._check_losses()
        lr = self._lr()
        self.learner.update(lr)
        self._step += 1
        self._session.count_step()
        self._pace.samples += len(views)
        told = self._step % self._per_epoch
        if told % self._every == 0:
            self._check_losses()
            losses = self._meter.read()
            self._pace.busy_s += time.perf_counter() - started
            self._tell({**losses, "train/lr": lr, **self._pace.read()})
        else:
            self._pace.busy_s += time.perf_counter() - started

    def _batch(self, step: int) -> tuple[Tensor, Batch]:
        epoch, number = step // self._per_epoch + 1, step % self._per_epoch
        views = self._loader.batch(epoch, number)
        return views.images, Batch(views.target, views.index, epoch, step + 1)

    def _lr(self) -> float:
        recipe = self._recipe
        scale = optim.factor(recipe.schedule, self._step, self._per_epoch, recipe.epochs)
        return recipe.optimizer.lr * scale

    def _validate(self) -> None:
        store, machine = self._task.store, self._session.machine
        try:
            logits = predict(
                self.learner.student,
                store.images("val"),
                device=machine.device,
                boundary=self._session.boundary,
                autocast=machine.autocast(),
            )
        except Stopped:
            self._save()
            raise
        self.learner.student.train()
        self._last = metrics.validation(logits, store.targets("val"), self._task.teacher_val)
        self._validated += 1
        top1 = self._last["val/top1"]
        if self._best is None or top1 > self._best.top1:
            self._best = Best(self._validated, top1, self.learner.weights())
        self._tell(self._last)

    def _check_losses(self) -> None:
        bad = self._meter.bad()
        if bad is not None:
            torch.manual_seed(fold(self._phase.seed, _STEP, bad.step - 1))
            views, batch = self._batch(bad.step - 1)
            raise explain(self.learner, views, batch, bad, self._phase)

    def _trust(self) -> None:
        """Raise ``NonFinite`` before broken weights are kept anywhere."""
        self._check_losses()
        if not self.learner.finite():
            raise NonFinite(
                f"the weights of the {self._phase.title} are not finite after step {self._step}; "
                "the loss was, so its gradient was not"
            )

    def _save(self) -> None:
        self._trust()
        done = len(self._session.results) * self.steps + self._step
        self._session.save(
            self.state(), step=done, epoch=done / self._per_epoch, metrics=self._named(self._last)
        )

    def _finish(self, best: Best) -> Result:
        return Result(
            role=self._phase.role,
            number=self._phase.number,
            best_epoch=best.epoch,
            best_val_top1=best.top1,
            last_val_top1=self._last["val/top1"],
            weights=best.weights,
        )

    def state(self) -> State:
        """This training's part of a checkpoint."""
        return {
            "learner": self.learner.state(),
            "meter": self._meter.state(),
            "step": self._step,
            "validated": self._validated,
            "last": self._last,
            "best": None if self._best is None else vars(self._best),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.learner.restore(state["learner"])
        self._meter.restore(state["meter"])
        self._step, self._validated = state["step"], state["validated"]
        self._last = state["last"]
        self._best = None if state["best"] is None else Best(**state["best"])

    def _tell(self, values: dict[str, float]) -> None:
        self._session.metrics(self._phase, self._step, self._recipe.epochs, self.steps, values)

    def _named(self, values: dict[str, float]) -> dict[str, float]:
        return {self._phase.prefix + name: value for name, value in values.items()}

    def _warn(self, message: str) -> None:
        self._session.events.log("warning", message)
