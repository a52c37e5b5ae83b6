"""The word that this worker shuts down, from Celery's main process to its pool's processes.

Celery tells only the main process. The pool's processes are forked from it, so a flag in shared
memory that is made at import is the same for all of them.
"""

import multiprocessing

_flag = multiprocessing.get_context("fork").Event()


def begin() -> None:
    """Tell all processes of this worker to finish what they do and to take nothing new."""
    _flag.set()


def begun() -> bool:
    """Whether this worker shuts down."""
    return _flag.is_set()
