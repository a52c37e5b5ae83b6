"""`shut_down`: end processes stage by stage, with a signal, a grace time, then SIGKILL.

The supervisor and its watchdog both use it.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stillhouse.local.supervise.proc import (
    kill_group,
    process_identity,
    process_tree,
    send_signal,
)

POLL_S = 0.02
AFTER_KILL_S = 1.0


@dataclass(frozen=True)
class ShutdownTarget:
    """A process that leads a process group, and how to end it. `grace_s` is in seconds."""

    pid: int
    identity: str
    stage: int
    signal: int
    grace_s: float

    def to_line(self) -> str:
        """Return the target as one line of text, for `parse`."""
        return f"{self.pid} {self.stage} {self.signal} {self.grace_s} {self.identity}"

    @classmethod
    def parse(cls, line: str) -> ShutdownTarget:
        """Read a line of `to_line`. Raises ValueError for any other text."""
        pid, stage, number, grace, identity = line.split(" ", 4)
        return cls(int(pid), identity, int(stage), int(number), float(grace))

    @property
    def alive(self) -> bool:
        """Whether this process still runs; another process with the same id does not count."""
        return process_identity(self.pid) == self.identity


def shut_down(
    targets: Iterable[ShutdownTarget], is_forced: Callable[[], bool] = lambda: False
) -> None:
    """End all targets and their descendants, lower stages first.

    `is_forced` is polled: once it returns True, everything is killed without more waiting.
    """
    everything = list(targets)
    for stage in sorted({target.stage for target in everything}):
        _shut_down_stage([target for target in everything if target.stage == stage], is_forced)


def _shut_down_stage(targets: list[ShutdownTarget], is_forced: Callable[[], bool]) -> None:
    # Descendants may lead sessions of their own and outlive a parent, so they are listed first.
    members = {target: process_tree([target.pid]) for target in targets if target.alive}
    for target in members:
        send_signal(target.pid, target.signal)
    started = time.monotonic()
    pending = set(members)
    while pending:
        for target in list(pending):
            if not _alive(members[target]):
                pending.discard(target)
            elif is_forced() or time.monotonic() - started > target.grace_s:
                _kill(target, members[target])
                pending.discard(target)
        time.sleep(POLL_S if pending else 0)
    for target in targets:
        # A process started after the listing above may still be in the group of an ended leader.
        _kill_group(target)


def _kill(target: ShutdownTarget, members: dict[int, str]) -> None:
    if target.alive:
        members |= process_tree([target.pid])
    _kill_group(target)
    for pid in _alive(members):
        send_signal(pid, signal.SIGKILL)
    deadline = time.monotonic() + AFTER_KILL_S
    while _alive(members) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _kill_group(target: ShutdownTarget) -> None:
    # The system does not re-use the id of a leader while its group has members. So an ended leader
    # leaves a group of ours; a running leader with another identity is a foreign process.
    if process_identity(target.pid) in (None, target.identity):
        kill_group(target.pid)


def _alive(members: dict[int, str]) -> list[int]:
    return [pid for pid, identity in members.items() if process_identity(pid) == identity]
