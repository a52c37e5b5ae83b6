"""`ProcessSpec`: which command to run, when it is ready, and how to stop it."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path


class StopStage(IntEnum):
    """The order of stopping: a program stops before the server that it uses."""

    APPS = 0
    BROKER = 1
    DATABASE = 2


@dataclass(frozen=True)
class ProcessSpec:
    """A command that the supervisor starts, and starts again when it exits.

    `is_ready` is polled until it returns True. `before_start` runs before every start. `user` is a
    numeric user id; None is the supervisor's user. The process gets `stop_signal`, and SIGKILL when
    it still runs after `grace_s` seconds.
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
