"""Why the engine stops, as a tree; the process turns each leaf into an event and an exit code.

::

    EngineError
    ├── UserFault          20  the request, the data or the checkpoint is at fault
    ├── OutOfDeviceMemory  21  the smallest possible step does not fit
    ├── NonFinite          22  the loss is not a number any more
    └── Stopped            10  asked to stop, and a checkpoint is written where there is one

Any other exception is a bug: it ends the process with its traceback on stderr and exit code 1.
"""

import re
from collections.abc import Sequence

from kdcore.protocol.events import ErrorCode, ErrorDetail

MAX_ITEMS = 1000
"""Bad things that one error names; the rest are counted."""
_MAX_NAME = 300
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class EngineError(Exception):
    """Everything that the engine says about itself and its input."""


class UserError(EngineError):
    """The request, the data or the checkpoint is at fault; trying again would not help.

    ``message`` is a sentence that says what was wrong and what would be right, ``hint`` what to do
    next, ``items`` every bad thing by its name: all of them are told at once.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        hint: str | None = None,
        items: Sequence[ErrorDetail] = (),
    ) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = to_printable(message)
        self.hint = hint
        self.items = cap_items(items)

    def __str__(self) -> str:
        """All of it: whoever logs an exception sees what to do."""
        lines = [self.message, *(f"{entry.name}: {entry.detail}" for entry in self.items)]
        return "\n".join([*lines, *([self.hint] if self.hint else [])])


class OutOfDeviceMemoryError(EngineError):
    """The smallest possible step does not fit into the memory of the device."""


class NonFiniteError(EngineError):
    """A loss or a gradient is infinite or not a number; the message names step and term."""


class RunCancelledError(EngineError):
    """Someone asked for a stop and it has been granted."""


def error_detail(name: str, detail: str) -> ErrorDetail:
    """One bad thing; ``name`` comes from strangers, so it is cut and made printable."""
    return ErrorDetail(name=to_printable(name)[:_MAX_NAME], detail=to_printable(detail)[:_MAX_NAME])


def to_printable(text: str) -> str:
    """``text`` with control characters and lone surrogates replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def cap_items(items: Sequence[ErrorDetail]) -> tuple[ErrorDetail, ...]:
    """The first :data:`MAX_ITEMS` items and, if there are more, one that says how many."""
    if len(items) <= MAX_ITEMS:
        return tuple(items)
    more = f"and {len(items) - MAX_ITEMS} more"
    return (*items[:MAX_ITEMS], ErrorDetail(name="…", detail=more))
