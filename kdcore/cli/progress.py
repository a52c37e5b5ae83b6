"""Progress of a run: a progress bar on a terminal, plain lines elsewhere."""

import math
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

from kdcore.protocol.events import EngineEvent, ErrorEvent, LogEvent, MetricsEvent, PhaseEvent
from kdcore.runtime.errors import describe_repair

_PHASE_LABELS = {
    "verifying_teacher": "checking the teacher",
    "training": "training",
    "evaluating": "evaluating",
    "exporting": "exporting",
}


class ProgressView:
    """Shows a run's events on a console. Leaving the ``with`` block removes the progress bar."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._state = _ProgressState()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=16),
            TaskProgressColumn(),
            # In a narrow terminal this column wraps instead of being cut.
            TextColumn("{task.fields[status]}", table_column=Column(no_wrap=False)),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("preparing", total=1.0, status="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: EngineEvent) -> None:
        """Show one event."""
        changed = self._state.update(event)
        if isinstance(event, LogEvent | ErrorEvent):
            self._print_message(event)
        elif changed and not self._console.is_terminal:
            # Without a terminal: one line for each phase and each validation.
            self._print_line(f"{self._state.phase:<24} {self._state.status}".rstrip())
        self._progress.update(
            self._task,
            description=self._state.phase,
            completed=self._state.fraction,
            status=self._state.status,
        )

    def _print_message(self, event: LogEvent | ErrorEvent) -> None:
        if isinstance(event, LogEvent):
            if event.level != "debug":
                self._print_line(f"{event.level}: {event.message}")
            return
        self._print_line(f"error: {event.message}")
        for item in event.items:
            self._print_line(f"  {item.name}: {item.detail}")
        if event.hint:
            self._print_line(event.hint)
        for line in describe_repair(event.fix, event.likely_class_order):
            self._print_line(line)

    def _print_line(self, text: str) -> None:
        # Text, because messages are not markup; unwrapped, because long lines are easier to search.
        self._console.print(Text(text), soft_wrap=True)


class _ProgressState:
    """The newest phase, metrics and remaining time, as text."""

    def __init__(self) -> None:
        self.phase = "preparing"
        self.fraction = 0.0
        self._values: dict[str, float] = {}
        self._loss = _EpochMean()
        self._epochs = ""
        self._eta_s: float | None = None

    def update(self, event: EngineEvent) -> bool:
        """Update from one event; return whether it deserves a line of output."""
        if isinstance(event, PhaseEvent):
            self.phase = _PHASE_LABELS.get(event.phase, event.phase)
            self._eta_s = None
            if event.phase in ("evaluating", "exporting"):
                # Training has ended, so its last metrics are out of date.
                self._values, self._epochs = {}, ""
            return event.phase != "training"
        if not isinstance(event, MetricsEvent):
            return False
        values = {name: v for name, v in event.values.items() if v is not None}
        self._store_metrics(event, values, _network_of(values))
        if event.progress is not None:
            self.fraction = event.progress.fraction
            self._epochs = (
                f"epoch {event.progress.epoch}/{event.progress.epochs}"
                if event.phase_epochs is None
                else f"epoch {int(event.epoch)}/{event.phase_epochs}"
            )
            self._eta_s = event.eta_s
        return any(name.endswith("val/top1") or name == "teacher/top1" for name in values)

    def _store_metrics(
        self, event: MetricsEvent, values: dict[str, float], network: str | None
    ) -> None:
        if "teacher/top1" in values:
            self._values["teacher/top1"] = values["teacher/top1"]
        if network is None:
            return
        phase = f"training {network or 'student'}"
        if phase != self.phase:
            # The last metrics are those of another network.
            self._values = {k: v for k, v in self._values.items() if k == "teacher/top1"}
            self._loss = _EpochMean()
        self.phase = phase
        for name in ("train/loss", "val/top1", "val/agreement"):
            value = values.get(f"{network}/{name}".lstrip("/"))
            if value is not None:
                self._values[name] = self._loss.add(event, value) if name == "train/loss" else value

    @property
    def status(self) -> str:
        """Epoch, loss, accuracies and remaining time, as far as they are known."""
        shown = {
            "train/loss": "loss {:.3f}",
            "val/top1": "val top-1 {:.1f} %",
            "val/agreement": "agreement {:.1f} %",
            "teacher/top1": "teacher {:.1f} %",
        }
        parts = [self._epochs]
        parts += [text.format(self._values[k]) for k, text in shown.items() if k in self._values]
        if self._eta_s is not None:
            parts.append(f"{format_duration(self._eta_s)} left")
        return "  ".join(filter(None, parts))


class _EpochMean:
    """The mean of a loss since the start of its epoch. Each point is a mean since the last one."""

    def __init__(self) -> None:
        self._epoch = 0
        self._step = 0
        self._sum = 0.0
        self._num_steps = 0

    def add(self, event: MetricsEvent, loss: float) -> float:
        """Add a point and return the mean over the steps of its epoch."""
        epoch = math.ceil(event.epoch)
        steps_per_epoch = round(event.step / event.epoch) if event.epoch else event.step
        if epoch != self._epoch or event.step <= self._step:
            self._epoch, self._step = epoch, max(0, epoch - 1) * steps_per_epoch
            self._sum, self._num_steps = 0.0, 0
        num_steps = max(1, event.step - self._step)
        self._sum += loss * num_steps
        self._num_steps += num_steps
        self._step = event.step
        return self._sum / self._num_steps


def _network_of(values: dict[str, float]) -> str | None:
    """Return the network of the first loss or accuracy; empty for the student."""
    for name in values:
        for metric in ("train/loss", "val/top1"):
            if name == metric or name.endswith(f"/{metric}"):
                return name.removesuffix(metric).strip("/")
    return None


def format_duration(seconds: float) -> str:
    """Format seconds as ``50 s``, ``3 min`` or ``2 h 05 min``."""
    if seconds < 90:
        return f"{math.ceil(seconds)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
