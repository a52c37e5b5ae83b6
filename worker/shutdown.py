"""ShutdownFlag: a flag that a worker's pool processes share; set when the worker shuts down.

Celery signals only its main process. Its pool processes are forked from it and share the memory of
a flag that exists before the fork.
"""

import multiprocessing


class ShutdownFlag:
    """A flag that is shared by all processes that are forked after its creation."""

    def __init__(self) -> None:
        self._event = multiprocessing.get_context("fork").Event()

    def request(self) -> None:
        """Let every slot finish what it does and claim no other job."""
        self._event.set()

    def is_requested(self) -> bool:
        """Whether the worker shuts down."""
        return self._event.is_set()


worker_shutdown = ShutdownFlag()
"""The flag of this worker, created before Celery forks its pool."""
