"""Ending processes in order: ask, wait, then insist. Used by the supervisor and by its watchdog."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stillhouse.local.supervise.proc import (
    kill_group,
    process_start_time,
    process_tree,
    send_signal,
)

POLL_S = 0.02
AFTER_KILL_S = 1.0


@dataclass(frozen=True)
class ShutdownTarget:
    """A process that leads its own group, and how it is to be ended."""

    pid: int
    start_time: str
    stage: int
    signal: int
    grace_s: float

    def to_line(self) -> str:
        """The target as one line of text; `parse` reads it back."""
        return f"{self.pid} {self.stage} {self.signal} {self.grace_s} {self.start_time}"

    @classmethod
    def parse(cls, line: str) -> ShutdownTarget:
        """Read what `line` wrote; ValueError if it is something else."""
        pid, stage, number, grace, start_time = line.split(" ", 4)
        return cls(int(pid), start_time, int(stage), int(number), float(grace))

    @property
    def alive(self) -> bool:
        """Whether the very process still runs (a re-used id does not count)."""
        return process_start_time(self.pid) == self.start_time


def shut_down(
    targets: Iterable[ShutdownTarget], is_forced: Callable[[], bool] = lambda: False
) -> None:
    """End all targets, lower stages first; nothing of them or below them is left afterwards.

    `hurry` is asked again and again: once true, everything is killed without more waiting.
    """
    everyone = list(targets)
    for stage in sorted({target.stage for target in everyone}):
        _shut_down_stage([target for target in everyone if target.stage == stage], is_forced)


def _shut_down_stage(targets: list[ShutdownTarget], is_forced: Callable[[], bool]) -> None:
    # Grandchildren may lead sessions of their own and outlive a parent, so they are noted first.
    members = {target: process_tree([target.pid]) for target in targets if target.alive}
    for target in members:
        send_signal(target.pid, target.signal)
    began = time.monotonic()
    pending = set(members)
    while pending:
        for target in list(pending):
            if not _alive(members[target]):
                pending.discard(target)
            elif is_forced() or time.monotonic() - began > target.grace_s:
                _kill(target, members[target])
                pending.discard(target)
        time.sleep(POLL_S if pending else 0)
    for target in targets:
        # Someone born after the look above: the leader has gone, its group may not have.
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
    # While a group has members the system gives its number to nobody else, so a leader that is
    # gone is ours; one with another birth is a stranger.
    if process_start_time(target.pid) in (None, target.start_time):
        kill_group(target.pid)


def _alive(members: dict[int, str]) -> list[int]:
    return [pid for pid, start_time in members.items() if process_start_time(pid) == start_time]
