"""The word that this worker shuts down, from Celery's main process to its pool's processes.

Celery tells only the main process. The pool's processes are forked from it, so a flag in shared
memory that is made at import is the same for all of them.
"""

import multiprocessing

_shutdown_requested = multiprocessing.get_context("fork").Event()


def request_shutdown() -> None:
    """Tell all processes of this worker to finish what they do and to take nothing new."""
    _shutdown_requested.set()


def is_shutting_down() -> bool:
    """Whether this worker shuts down."""
    return _shutdown_requested.is_set()
