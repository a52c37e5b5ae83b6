"""Limits that the process puts on itself before it loads a library or opens a stranger's file."""

import contextlib
import ctypes
import os
import resource
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a prediction does not wait for what is only looked at by mypy
    from kdcore.protocol.requests import EngineRequest, ResourceLimits


_GRACE_S = 5
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Of ``malloc.h``: the free bytes at the end of the heap, and the bytes of one block, from which on
memory is given back."""


class CpuTimeExceededError(BaseException):
    """The process has used the processor seconds that its request allows.

    No ``Exception``: code that takes whatever a decoder raises for a fault of one file must not
    take this for one.
    """


def apply_limits(request: "EngineRequest") -> None:
    """Set the request's resource limits and its number of threads, for this process for good."""
    _set_limits(request.limits)
    # The process must not leave its memory on disk when a hostile file crashes a decoder.
    _lower_limit(resource.RLIMIT_CORE, 0)
    # When memory runs out, this process is to go, not the database beside it (Linux alone).
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    set_thread_counts(request.threads)
    retain_freed_memory()


def retain_freed_memory() -> None:
    """Let the allocator keep what is freed, for the next batch (glibc alone).

    It gives blocks of more than 32 MiB back to the system at once, such as 64 normalized images of
    224 pixels: each time they are asked for again, every page of them is cleared anew, which takes
    longer than the arithmetic on them.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    # Before 2.35 the first is refused, and the second alone would make everything worse.
    if adjust and adjust(_M_MMAP_THRESHOLD, 1 << 30):
        adjust(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def set_thread_counts(threads: int | None) -> None:
    """Set how many threads the libraries start; they read it when they are loaded."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
    # Threads that wait for each other spin for some microseconds, then sleep. A long spin holds up
    # the very thread it waits for when anybody else wants the core: steps of resnet8x4 were seen to
    # take ten times as long. No spin at all makes resnet8 on an idle machine three times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def _set_limits(limits: "ResourceLimits") -> None:
    if limits.memory_bytes is not None:
        _lower_limit(resource.RLIMIT_AS, limits.memory_bytes)
    if limits.file_bytes is not None:
        _lower_limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    if limits.cpu_s is not None:
        # At the soft limit the kernel asks, at the hard one it kills: between them we can say why.
        signal.signal(signal.SIGXCPU, _on_cpu_limit)
        _lower_limit(resource.RLIMIT_CPU, limits.cpu_s, grace=_GRACE_S)


def _lower_limit(which: int, value: int, grace: int = 0) -> None:
    _, hard = resource.getrlimit(which)
    top = value + grace if hard == resource.RLIM_INFINITY else min(value + grace, hard)
    resource.setrlimit(which, (min(value, top), top))


def _on_cpu_limit(_number: int, _frame: FrameType | None) -> None:
    raise CpuTimeExceededError("the work took more processor time than its limit allows")


def exit_with_supervisor() -> None:
    """Watch stdin: when its other end closes, the supervisor is gone and so is this process."""
    threading.Thread(target=wait_for_supervisor_exit, name="supervisor-watch", daemon=True).start()


def wait_for_supervisor_exit() -> None:
    """Wait until the other end of stdin closes, then end this process and its children."""
    # os.read and not sys.stdin: a daemon thread inside a buffered reader aborts a normal exit.
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    if os.getpgrp() == os.getpid():
        # The leader of a group takes its own children, such as loader processes, with it.
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
