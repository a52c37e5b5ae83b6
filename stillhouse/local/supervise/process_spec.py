"""One part of the local stack: what to run and how to end it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path


class StopStage(IntEnum):
    """The order of stopping: whoever uses a server goes before it."""

    APPS = 0
    BROKER = 1
    DATABASE = 2


@dataclass(frozen=True)
class ProcessSpec:
    """A command that the supervisor starts, and restarts when it dies.

    `ready` is asked until it says True; `before` runs ahead of every start; `user` is the numeric
    user to run as, when that is not the supervisor's own.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(repr=False, default_factory=dict)
    cwd: Path = Path("/")
    is_ready: Callable[[], bool] | None = None
    before_start: Callable[[], None] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stage: StopStage = StopStage.APPS
    grace_s: float = 14.0
    user: int | None = None
