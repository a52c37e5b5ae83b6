"""When to start a dead part again, and when to give up."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

MOST_DEATHS = 10
WINDOW_S = 60.0
FIRST_WAIT_S = 0.1
# Low enough that a part which needs four seconds to fail still reaches ten deaths in a minute.
LONGEST_WAIT_S = 2.0


class RestartPolicy:
    """The deaths of one part within the last minute."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._deaths: deque[float] = deque()

    def delay_after_death_s(self) -> float | None:
        """Seconds to wait before the next start; None when it died too often."""
        now = self._clock()
        self._deaths.append(now)
        while now - self._deaths[0] > WINDOW_S:
            self._deaths.popleft()
        if len(self._deaths) >= MOST_DEATHS:
            return None
        wait_s: float = FIRST_WAIT_S * 2 ** (len(self._deaths) - 1)
        return min(wait_s, LONGEST_WAIT_S)
