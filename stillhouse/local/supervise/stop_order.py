"""Ending processes in order: ask, wait, then insist. Used by the supervisor and by its watchdog."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from stillhouse.local.supervise.proc import birth, families, kill_group, send

POLL_S = 0.02
AFTER_KILL_S = 1.0


@dataclass(frozen=True)
class Target:
    """A process that leads its own group, and how it is to be ended."""

    pid: int
    born: str
    stage: int
    signal: int
    grace_s: float

    def line(self) -> str:
        """The target as one line of text; `parse` reads it back."""
        return f"{self.pid} {self.stage} {self.signal} {self.grace_s} {self.born}"

    @classmethod
    def parse(cls, line: str) -> Target:
        """Read what `line` wrote; ValueError if it is something else."""
        pid, stage, number, grace, born = line.split(" ", 4)
        return cls(int(pid), born, int(stage), int(number), float(grace))

    @property
    def alive(self) -> bool:
        """Whether the very process still runs (a re-used id does not count)."""
        return birth(self.pid) == self.born


def wind_down(targets: Iterable[Target], hurry: Callable[[], bool] = lambda: False) -> None:
    """End all targets, lower stages first; nothing of them or below them is left afterwards.

    `hurry` is asked again and again: once true, everything is killed without more waiting.
    """
    everyone = list(targets)
    for stage in sorted({target.stage for target in everyone}):
        _end([target for target in everyone if target.stage == stage], hurry)


def _end(targets: list[Target], hurry: Callable[[], bool]) -> None:
    # Grandchildren may lead sessions of their own and outlive a parent, so they are noted first.
    members = {target: families([target.pid]) for target in targets if target.alive}
    for target in members:
        send(target.pid, target.signal)
    began = time.monotonic()
    pending = set(members)
    while pending:
        for target in list(pending):
            if not _living(members[target]):
                pending.discard(target)
            elif hurry() or time.monotonic() - began > target.grace_s:
                _kill(target, members[target])
                pending.discard(target)
        time.sleep(POLL_S if pending else 0)
    for target in targets:
        # Someone born after the look above: the leader has gone, its group may not have.
        _kill_group(target)


def _kill(target: Target, members: dict[int, str]) -> None:
    if target.alive:
        members |= families([target.pid])
    _kill_group(target)
    for pid in _living(members):
        send(pid, signal.SIGKILL)
    deadline = time.monotonic() + AFTER_KILL_S
    while _living(members) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def _kill_group(target: Target) -> None:
    # While a group has members the system gives its number to nobody else, so a leader that is
    # gone is ours; one with another birth is a stranger.
    if birth(target.pid) in (None, target.born):
        kill_group(target.pid)


def _living(members: dict[int, str]) -> list[int]:
    return [pid for pid, born in members.items() if birth(pid) == born]
