"""The one training loop: every scheme's every phase goes through it."""

import math
import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kdcore.data.rng import fold
from kdcore.evaluation import metrics
from kdcore.methods.base import Batch
from kdcore.models.predict_logits import predict
from kdcore.runtime.errors import NonFinite, Stopped
from kdcore.schemes.base import Phase, Result
from kdcore.training.checkpoint import State
from kdcore.training.context import Task
from kdcore.training.loop import optim
from kdcore.training.loop.builder import begin
from kdcore.training.loop.early_stopping import Best, Pace, Patience
from kdcore.training.loop.loss_meter import Meter
from kdcore.training.loop.nonfinite import explain
from kdcore.training.phase_teachers import Lesson
from kdcore.training.run_state import Position, Session
from kdcore.training.teacher_cache.policy import keeping

_STEP = 4
"""Stream of a seed for the global generators: dropout and the like."""
_POINTS_PER_EPOCH, _POINTS = 20, 1000
"""Of a curve, at most: more than that nobody sees, and each is rows in a database."""


class Loop:
    """One phase from wherever its checkpoint stands to its last epoch."""

    def __init__(self, session: Session, task: Task, phase: Phase, lesson: Lesson) -> None:
        self._session, self._task, self._phase, self._lesson = session, task, phase, lesson
        recipe = task.job.training
        device = session.machine.device
        self._recipe = recipe
        self.loader = task.loader(phase.seed, phase.pupils[0], device)
        self._per_epoch = task.steps_per_epoch(phase.budget or phase.pupils[0])
        self.steps = recipe.epochs * self._per_epoch
        fewest = self._per_epoch / _POINTS_PER_EPOCH, self.steps / _POINTS
        self._every = math.ceil(max(fewest))
        samples = (self.loader.targets, self.steps)
        self.cohort = begin(task, phase, lesson.teachers, session.machine, samples)
        live, loader = self.cohort.teachers, self.loader
        self.kept = keeping(session, task, lesson.teachers, live, loader)
        self.cohort.teachers = self.kept or live
        self._meters = [Meter(device) for _ in phase.pupils]
        self._pace = Pace()
        self._patience = Patience(recipe.early_stopping)
        self._step = 0
        self._validated = 0
        self._last: list[dict[str, float]] = [{} for _ in phase.pupils]
        self._best: list[Best | None] = [None for _ in phase.pupils]

    def run(self) -> tuple[list[Result], dict[str, float]]:
        """Train to the end; return the results and the last validation's metrics.

        Raises ``Stopped`` with a checkpoint, ``NonFinite``, ``UserFault``."""
        self.cohort.train()
        while True:
            if self._step == (self._validated + 1) * self._per_epoch:
                self._validate()
            if self._step == self.steps or self._stopped_early():
                break
            self._boundary()
            self._train()
        self._trust()
        self.cohort.close()
        return [self._result(place) for place in range(len(self._best))], self._named()

    def _stopped_early(self) -> bool:
        if not (self._at_epoch_end() and self._patience.exhausted):
            return False
        self._session.events.log(
            "info",
            f"the {self._phase.title} no longer improves: stopped after epoch {self._validated} of "
            f"{self._recipe.epochs}",
        )
        return True

    def _boundary(self) -> None:
        try:
            self._session.boundary()
            if self.kept is not None:
                turn = self.loader.turn(self._step // self.loader.steps_per_epoch + 1)
                self.kept.ready(turn, self._session.boundary, self._session.events)
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
        rows = self.cohort.gradients(views, batch, self._warn)
        for meter, row in zip(self._meters, rows, strict=True):
            meter.add(self._step + 1, row.names, row.values, len(views))
        if rows[0].values.device.type == "cpu":
            # Looking costs nothing here, so that the update is never made from a broken loss.
            self._check_losses()
        lr = self._lr()
        self.cohort.update(lr)
        self._step += 1
        self._session.count_step()
        self._pace.samples += len(views)
        if self._step % self._per_epoch % self._every == 0:
            self._check_losses()
            losses = [meter.read() for meter in self._meters]
            self._pace.busy_s += time.perf_counter() - started
            losses[0] |= {"train/lr": lr, **self._pace.read(self._session.machine.device)}
            self._tell(losses)
        else:
            self._pace.busy_s += time.perf_counter() - started

    def _batch(self, step: int) -> tuple[Tensor, Batch]:
        # On another's budget it may have begun with its images anew before the epoch ends.
        times, number = divmod(step, self.loader.steps_per_epoch)
        views = self.loader.batch(times + 1, number)
        epoch = step // self._per_epoch + 1
        batch = Batch(views.target, views.index, epoch, step + 1, views.mix, views.view)
        return views.images, batch

    def _lr(self) -> float:
        recipe = self._recipe
        scale = optim.factor(recipe.schedule, self._step, self._per_epoch, recipe.epochs)
        return recipe.optimizer.lr * scale

    def _validate(self) -> None:
        try:
            told = [self._validation(place) for place in range(len(self._last))]
        except Stopped:
            self._save()
            raise
        self.cohort.train()
        self._last = told
        self._validated += 1
        for place, learner in enumerate(self.cohort.learners):
            top1, best = told[place]["val/top1"], self._best[place]
            if best is None or top1 > best.top1:
                self._best[place] = Best(self._validated, top1, learner.weights())
        if not self.cohort.learners[0].preparing(self._step):
            # While only adapters or early layers learn, nobody can expect better answers.
            self._patience.note(told[0]["val/top1"])
        self._tell(told)

    def _validation(self, place: int) -> dict[str, float]:
        store, machine = self._task.store, self._session.machine
        logits = predict(
            self.cohort.learners[place].student,
            store.images("val"),
            device=machine.device,
            boundary=self._session.boundary,
            autocast=machine.autocast(),
        )
        return metrics.validation(logits, store.targets("val"), self._lesson.val)

    def _check_losses(self) -> None:
        for place, meter in enumerate(self._meters):
            bad = meter.bad()
            if bad is not None:
                torch.manual_seed(fold(self._phase.seed, _STEP, bad.step - 1))
                views, batch = self._batch(bad.step - 1)
                raise explain(self.cohort, place, views, batch, bad, self._phase)

    def _trust(self) -> None:
        """Raise ``NonFinite`` before broken weights are kept anywhere."""
        self._check_losses()
        if not self.cohort.finite():
            raise NonFinite(
                f"the weights of the {self._phase.title} are not finite after step {self._step}; "
                "the loss was, so its gradient was not"
            )

    def _save(self) -> None:
        self._trust()
        self._session.save(self.state(), self.position, self._named())

    @property
    def position(self) -> Position:
        """How far this phase is."""
        return Position(self._step, self.steps, self._recipe.epochs)

    def _result(self, place: int) -> Result:
        pupil, best = self._phase.pupils[place], self._best[place]
        if best is None:
            raise ValueError("a training of no epochs has no result")
        return Result(
            phase=self._session.phases_done,
            number=self._phase.number,
            role=pupil.role,
            name=pupil.name,
            student=pupil.student,
            best_epoch=best.epoch,
            best_val_top1=best.top1,
            last_val_top1=self._last[place]["val/top1"],
            weights=best.weights,
        )

    def state(self) -> State:
        """This training's part of a checkpoint."""
        return {
            "role": self._phase.pupils[0].role,
            "number": self._phase.number,
            "cohort": self.cohort.state(),
            "meters": [meter.state() for meter in self._meters],
            "patience": self._patience.state(),
            "step": self._step,
            "validated": self._validated,
            "last": self._last,
            "best": [None if best is None else vars(best) for best in self._best],
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.cohort.restore(state["cohort"])
        for meter, part in zip(self._meters, state["meters"], strict=True):
            meter.restore(part)
        self._patience.restore(state["patience"])
        self._step, self._validated = state["step"], state["validated"]
        self._last = state["last"]
        self._best = [None if best is None else Best(**best) for best in state["best"]]

    def _tell(self, values: Sequence[dict[str, float]]) -> None:
        self._session.metrics(self.position, self._merged(values))

    def _named(self) -> dict[str, float]:
        return self._merged(self._last)

    def _merged(self, values: Sequence[dict[str, float]]) -> dict[str, float]:
        return {
            self._phase.prefix(pupil) + name: value
            for pupil, told in zip(self._phase.pupils, values, strict=True)
            for name, value in told.items()
        }

    def _warn(self, message: str) -> None:
        self._session.events.log("warning", message)
