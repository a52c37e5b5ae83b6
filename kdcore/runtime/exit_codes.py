"""Turn the exception that ended a run into an event and an exit code."""

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
    """Emit the event for ``error`` and return the exit code; tracebacks of bugs go to stderr.

    ``limit_error_code`` is the code of the event if the input can exceed the process's limits.
    """
    user_error = _as_user_error(error, limit_error_code)
    if user_error is not None:
        events.error(
            user_error.code,
            user_error.message,
            user_error.hint,
            user_error.items,
            user_error.num_items,
            fix=user_error.fix,
            likely_class_order=user_error.likely_class_order,
            fix_fields=user_error.fix_fields,
        )
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
        with contextlib.suppress(OSError):  # events are on the same disk
            events.error("storage_unavailable", "the disk of the worker is full")
        return ExitCode.NO_SPACE
    traceback.print_exception(error, file=sys.stderr)
    return _CRASH


def _is_disk_full(error: BaseException) -> bool:
    """Return whether a full disk caused the error."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # safetensors has the number in its message.
        if any(f"os error {number})" in str(cause) for number in (errno.ENOSPC, errno.EDQUOT)):
            return True
        # When torch closes the file, its next exception hides the one of the write.
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
    return UserError(limit_error_code, f"the upload exceeds the limit of {limit} when it is opened")


def _exceeded_limit(error: BaseException) -> str | None:
    """Return the limit of the process that the exception is about, or None."""
    if isinstance(error, limits.CpuTimeExceededError):
        return "processor time"
    if isinstance(error, OSError) and error.errno == errno.EFBIG:
        return "disk space"
    # torch's allocator on the host raises a plain RuntimeError, known by its message alone.
    no_memory = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    if no_memory or isinstance(error, MemoryError):
        return "memory"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "memory"
    return None


def _is_torch_oom(error: BaseException) -> bool:
    # By name, so that this module need not import torch.
    return type(error).__name__ == "OutOfMemoryError"
