"""The process that ends the parts when the supervisor was killed and could not do it itself.

It reads lines from a pipe whose other end only the supervisor holds: `+ TARGET` and `- PID`. The
end of the file is the supervisor's death (or its farewell, when nothing is left to end). It also
holds the lock of the data folder, so nobody starts a second Postgres before the first has gone.
"""

from __future__ import annotations

import os
import signal
import sys

from stillhouse.local.supervise.stop_order import ShutdownTarget, shut_down


def main() -> None:
    """Follow the pipe on the descriptor in the first argument, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    targets: dict[int, ShutdownTarget] = {}
    with os.fdopen(int(sys.argv[1]), encoding="utf-8") as lines:
        for line in lines:
            verb, _, rest = line.strip().partition(" ")
            if verb == "+":
                target = ShutdownTarget.parse(rest)
                targets[target.pid] = target
            elif verb == "-":
                targets.pop(int(rest), None)
    shut_down(targets.values())
