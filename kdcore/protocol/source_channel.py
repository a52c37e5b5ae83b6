"""The channel through which an engine reads the files of a source from its worker.

The worker lists and reads the files, because the engine has no credentials and opens no path of a
source. The channel is a stream socket that the engine inherits. The engine sends requests of
:data:`REQUEST`; the worker sends a frame for each read, in the order of the requests. A frame is
:data:`FRAME_HEADER` and its payload. The first request lists the files: frames of one JSON object
per line with the fields of :class:`ListedFile`, and a frame of kind :data:`END`.
"""

import struct
from typing import Literal, NamedTuple

from kdcore.schema.base import FrozenModel

REQUEST = struct.Struct("!cIQI")
"""Kind, index of the file in the list, first byte, number of bytes (at most :data:`MAX_READ`)."""
LIST, READ = b"L", b"R"
FRAME_HEADER = struct.Struct("!cI")
"""Kind, bytes of the payload."""
DATA, END, ERROR = b"D", b"E", b"X"
MAX_READ = 4 << 20


class ListedFile(NamedTuple):
    """A file of a source."""

    name: str
    """Path below the source, with slashes."""
    size: int
    version: str
    """Changes with the content: the ETag, or time and number of the file."""
    problem: str | None = None
    """Why it cannot be read, such as a link that leaves the folder."""


class ListEnd(FrozenModel):
    """Payload of the frame that ends a list."""

    single: bool
    """Whether the source is one file and not a folder or a prefix."""


class ChannelError(FrozenModel):
    """Payload of a frame of kind :data:`ERROR`: the request could not be answered."""

    kind: Literal["refused", "unavailable"]
    """`unavailable`: the same request may succeed later, so the worker starts the job again."""
    message: str
    name: str | None = None
    """The file that the message is about."""
