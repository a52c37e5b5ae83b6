"""From an exception to an exit code: reports why a run failed and says with which code it ends."""

import contextlib
import errno
import sys
import traceback

from kdcore.protocol.events import ErrorCode
from kdcore.protocol.requests import ExitCode
from kdcore.runtime import limits
from kdcore.runtime.errors import (
    NonFiniteError,
    OutOfDeviceMemoryError,
    RunCancelledError,
    UserError,
)
from kdcore.runtime.event_writer import EventWriter

_CRASH = 1


def report_failure(
    error: BaseException, events: EventWriter, limit_error_code: ErrorCode | None = None
) -> int:
    """Tell how a run ended and return its exit code; a crash's traceback goes to stderr."""
    user_error = _as_user_error(error, limit_error_code)
    if user_error is not None:
        events.error(user_error.code, user_error.message, user_error.hint, user_error.items)
        return ExitCode.USER_ERROR
    if isinstance(error, RunCancelledError):
        events.log("info", str(error))
        return ExitCode.STOPPED
    if isinstance(error, NonFiniteError):
        events.error("non_finite_loss", str(error))
        return ExitCode.NON_FINITE
    if isinstance(error, OutOfDeviceMemoryError | MemoryError) or _is_torch_oom(error):
        events.error("out_of_memory", str(error) or "the process has no memory left")
        return ExitCode.OUT_OF_MEMORY
    if _is_disk_full(error):
        with contextlib.suppress(OSError):  # the events lie on that disk, too
            events.error("storage_unavailable", "the disk of the worker is full")
        return ExitCode.NO_SPACE
    traceback.print_exception(error, file=sys.stderr)
    return _CRASH


def _is_disk_full(error: BaseException) -> bool:
    """Whether it is, or came of, a write that had no room."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # safetensors says the number in words
        if any(f"os error {number})" in str(cause) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        # What torch raises when it closes a file that had no room hides what the write raised.
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return False


def _as_user_error(error: BaseException, limit_error_code: ErrorCode | None) -> UserError | None:
    if isinstance(error, UserError):
        return error
    if limit_error_code is None:
        return None
    limit = _exceeded_limit(error)
    if limit is None:
        return None
    return UserError(limit_error_code, f"the upload takes more {limit} to open than it may")


def _exceeded_limit(error: BaseException) -> str | None:
    """Which limit of the process an exception speaks of."""
    if isinstance(error, limits.CpuTimeExceededError):
        return "processor time"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "room on disk"
    # torch's allocator on the host raises a bare RuntimeError; its words are all there is.
    no_memory = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    if no_memory or isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "memory"
    return None


def _is_torch_oom(error: BaseException) -> bool:
    # By name, so that this module need not load torch to look at an exception.
    return type(error).__name__ == "OutOfMemoryError"
