"""Limits that the process sets on itself before it loads a library or opens an upload."""

import contextlib
import ctypes
import os
import resource
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a prediction must start fast, and pydantic is slow to import
    from kdcore.protocol.requests import EngineRequest, ResourceLimits


_GRACE_S = 5
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Constants of ``malloc.h``: thresholds of the heap's free end, and of one block, above which
memory is returned to the system."""


class CpuTimeExceededError(BaseException):
    """The process has used the processor time that its request allows.

    Not an ``Exception``, because code that catches all exceptions of a decoder must not catch this.
    """


def apply_limits(request: "EngineRequest") -> None:
    """Set the request's resource limits and threads for the rest of the process."""
    _set_limits(request.limits)
    # A hostile file that crashes a decoder must not write a core dump.
    _lower_limit(resource.RLIMIT_CORE, 0)
    # Without memory, Linux should kill this process and not the database beside it.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    set_thread_counts(request.threads)
    retain_freed_memory()


def retain_freed_memory() -> None:
    """Let the allocator of glibc keep freed memory for the next batch.

    By default it returns blocks above 32 MiB to the system, such as 64 normalized images of 224
    pixels. The system then clears every page at the next allocation, which takes longer than the
    arithmetic.
    """
    adjust = getattr(ctypes.CDLL(None), "mallopt", None)
    # glibc before 2.35 refuses the first setting, and the second alone makes it slower.
    if adjust and adjust(_M_MMAP_THRESHOLD, 1 << 30):
        adjust(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def set_thread_counts(threads: int | None) -> None:
    """Set the number of threads that libraries read when they are loaded."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
    # Waiting threads spin for some microseconds, then sleep. A long spin delays the thread that it
    # waits for on a busy machine: steps of resnet8x4 took ten times as long. Without a spin,
    # resnet8 on an idle machine is three times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def _set_limits(limits: "ResourceLimits") -> None:
    if limits.memory_bytes is not None:
        _lower_limit(resource.RLIMIT_AS, limits.memory_bytes)
    if limits.file_bytes is not None:
        _lower_limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    if limits.cpu_s is not None:
        # The soft limit sends a signal, the hard limit kills; the error is reported in between.
        signal.signal(signal.SIGXCPU, _on_cpu_limit)
        _lower_limit(resource.RLIMIT_CPU, limits.cpu_s, grace=_GRACE_S)


def _lower_limit(which: int, value: int, grace: int = 0) -> None:
    _, hard = resource.getrlimit(which)
    top = value + grace if hard == resource.RLIM_INFINITY else min(value + grace, hard)
    resource.setrlimit(which, (min(value, top), top))


def _on_cpu_limit(_number: int, _frame: FrameType | None) -> None:
    # The kernel repeats the signal every second; the next one could end the exit of the process.
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    raise CpuTimeExceededError("the work exceeded its limit of processor time")


def ignore_cpu_limit() -> None:
    """Ignore the signal of the limit from now on: the result of the process is known.

    The interpreter restores the signal's default action while it exits, which would end the
    process with the signal in place of its exit code. An ignored signal stays ignored.
    """
    if signal.getsignal(signal.SIGXCPU) is _on_cpu_limit:
        signal.signal(signal.SIGXCPU, signal.SIG_IGN)


def exit_with_supervisor() -> None:
    """Exit when the other end of stdin closes, because the supervisor has exited."""
    threading.Thread(target=wait_for_supervisor_exit, name="supervisor-watch", daemon=True).start()


def wait_for_supervisor_exit() -> None:
    """Wait until the other end of stdin closes, then kill this process and its children."""
    # os.read and not sys.stdin: a daemon thread inside a buffered reader aborts a normal exit.
    try:
        while os.read(0, 4096):
            pass
    except OSError:
        pass
    if os.getpgrp() == os.getpid():
        # The leader of a group kills its children, too.
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
