"""Limit the bytes that a compressed upload unpacks to, against zip bombs."""

from kdcore.runtime.errors import UserError

MAX_RATIO = 200
"""Largest ratio of unpacked to packed bytes. Images are compressed; only a zip bomb has more."""
RATIO_MIN_BYTES = 64 << 20
"""Unpacked bytes that are always allowed, because small archives of bitmaps exceed the ratio."""


class ByteLimit:
    """Counts the unpacked bytes of an upload of ``packed_bytes``, up to ``max_bytes``."""

    def __init__(self, packed_bytes: int, max_bytes: int) -> None:
        self._max_bytes = min(max_bytes, max(RATIO_MIN_BYTES, MAX_RATIO * packed_bytes))
        self._num_bytes = 0

    def add(self, size: int) -> None:
        """Count unpacked bytes. Raises :class:`UserError` ``dataset_invalid`` above the limit."""
        self._num_bytes += size
        if self._num_bytes > self._max_bytes:
            raise UserError(
                "dataset_invalid",
                f"the archive unpacks to more than {self._max_bytes} bytes, the limit for its size",
                hint="upload fewer or smaller images, or several data sets",
            )
