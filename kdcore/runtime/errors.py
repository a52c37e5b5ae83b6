"""The engine's errors; the process turns each of them into an event and an exit code.

::

    EngineError
    ├── UserError               20  the request, the data or the checkpoint is invalid
    ├── OutOfDeviceMemoryError  21  even the smallest step does not fit
    ├── NonFiniteError          22  a loss or a gradient is infinite or not a number
    └── RunCancelledError       10  cancelled on request, after a checkpoint if there is one

Any other exception is a bug: its traceback goes to stderr and the exit code is 1.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kdcore.protocol.events import ErrorCode, ErrorDetail

MAX_ITEMS = 1000
"""Items that one error holds; further items are counted."""
MAX_NAMES = 20
"""Items that one message names; further items are counted."""
_MAX_NAME = 300
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class EngineError(Exception):
    """Base of the engine's errors."""


class UserError(EngineError):
    """The request, the data or the checkpoint is invalid, so a retry would fail, too.

    ``message`` says what is wrong and what would be right, ``hint`` what to do next; ``items``
    names the first invalid parts, and ``num_items`` counts all of them. ``fix`` is a JSON Patch of
    the job that corrects it; ``likely_class_order`` the probable class of a teacher for each class
    of the data set. ``fix_fields`` names fields of the request that could mend the refusal of an
    upload: its bytes then stay for a new request.
    """

    def __init__(  # noqa: PLR0913 - details, all by keyword
        self,
        code: ErrorCode,
        message: str,
        *,
        hint: str | None = None,
        items: Sequence[ErrorDetail] = (),
        fix: Sequence[dict[str, Any]] | None = None,
        likely_class_order: tuple[int, ...] | None = None,
        fix_fields: Sequence[str] = (),
    ) -> None:
        super().__init__(message)
        self.code: ErrorCode = code
        self.message = to_printable(message)
        self.hint = hint
        self.items = tuple(items[:MAX_ITEMS])
        self.num_items = len(items)
        self.fix = None if fix is None else tuple(fix)
        self.likely_class_order = likely_class_order
        self.fix_fields = tuple(fix_fields)

    def __str__(self) -> str:
        """Message, items, hint and fix, so that a log shows what to do."""
        lines = [self.message, *(f"{i.name}: {i.detail}" for i in self.items[:MAX_NAMES])]
        if self.num_items > MAX_NAMES:
            lines.append(f"and {self.num_items - MAX_NAMES} more")
        lines += [self.hint] if self.hint else []
        return "\n".join([*lines, *describe_repair(self.fix, self.likely_class_order)])


class OutOfDeviceMemoryError(EngineError):
    """Even the smallest step does not fit into the memory of the device."""


class NonFiniteError(EngineError):
    """A loss or a gradient is infinite or not a number; the message names step and term."""


class RunCancelledError(EngineError):
    """The run ended because its cancellation was requested."""


def error_detail(name: str, detail: str) -> ErrorDetail:
    """Return an item of an error; texts of users are shortened and made printable."""
    return ErrorDetail(name=to_printable(name)[:_MAX_NAME], detail=to_printable(detail)[:_MAX_NAME])


def describe_repair(
    fix: Sequence[Mapping[str, Any]] | None, likely_class_order: Sequence[int] | None
) -> list[str]:
    """Return lines with the JSON Patch and the order of classes that an error suggests."""
    lines = [] if fix is None else [f"fix: {json.dumps(list(fix))}"]
    if likely_class_order is not None:
        lines.append(f"likely_class_order: {json.dumps(list(likely_class_order))}")
    return lines


def to_printable(text: str) -> str:
    """Replace control characters and lone surrogates in ``text`` by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def join_names(names: Sequence[str], max_names: int = MAX_NAMES) -> str:
    """Join the first names of users, and count the others."""
    few = ", ".join(to_printable(name)[:_MAX_NAME] for name in names[:max_names])
    return f"{few} and {len(names) - max_names} more" if len(names) > max_names else few
