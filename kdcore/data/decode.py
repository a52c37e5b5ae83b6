"""Decode one image file to pixels. The bytes may be hostile."""

import io
import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_REDUCING_GAP = 2
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_GRAY_MODES = ("1", "L", "LA", *_DEEP_MODES)


class InvalidImageError(Exception):
    """The bytes are not a usable image; the message says why."""


class ImageHeader(NamedTuple):
    """Size and mode of an image, from its header."""

    width: int
    height: int
    gray: bool


def read_header(data: bytes, max_pixels: int) -> ImageHeader:
    """Read the header alone. Raises :class:`InvalidImageError`, also above ``max_pixels``."""
    with _convert_errors(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return _check_header(image, max_pixels)


def _check_header(image: Image.Image, max_pixels: int) -> ImageHeader:
    width, height = image.size
    if width * height > max_pixels:
        raise InvalidImageError(f"has {width} x {height} pixels; at most {max_pixels} are allowed")
    return ImageHeader(width, height, image.mode in _GRAY_MODES)


def decode(data: bytes, *, gray: bool, size: int, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Decode the first frame to pixels (C, size, size), rotated as its EXIF data says.

    C is 1 for ``gray``, else 3. Sixteen bits are scaled to eight, and transparent pixels become
    white. The central square of the image is resized with antialiasing. Raises
    :class:`InvalidImageError`, also above ``max_pixels``.
    """
    with _convert_errors(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _check_header(image, max_pixels)
        # A JPEG can be decoded at a fraction of its size; twice the result is enough to resize.
        image.draft(None, (_REDUCING_GAP * size, _REDUCING_GAP * size))
        image.load()
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        turned = image if upright else ImageOps.exif_transpose(image)
        return fit_image(turned, gray=gray, size=size)


def fit_image(image: Image.Image, *, gray: bool, size: int) -> npt.NDArray[np.uint8]:
    """Convert an image of any mode to pixels (C, size, size), by the rules of :func:`decode`."""
    plain, mode = _flatten(image), "L" if gray else "RGB"
    if plain.mode != mode:
        plain = plain.convert(mode)
    if plain.size != (size, size):
        plain = ImageOps.fit(plain, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(plain, dtype=np.uint8)
    return pixels[None] if gray else pixels.transpose(2, 0, 1)


def _flatten(image: Image.Image) -> Image.Image:
    """Convert to eight bits without transparency."""
    if image.mode in _DEEP_MODES:
        deep = np.asarray(image).astype(np.int64).clip(0, 65_535)
        return Image.fromarray(((deep * 255 + 32_767) // 65_535).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, opaque)
    return image


class _convert_errors:  # noqa: N801 - reads as a verb in a with statement
    """Convert the exceptions and warnings of decoders to :class:`InvalidImageError`."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        # A decompression bomb is only a warning; other warnings are about harmless metadata.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._warnings.__exit__(None, None, None)
        if isinstance(error, InvalidImageError | MemoryError) or not isinstance(error, Exception):
            return
        # Hostile bytes make decoders raise OSError, SyntaxError, struct.error and more.
        if isinstance(error, UnidentifiedImageError):
            raise InvalidImageError(
                f"is not a {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image"
            ) from error
        raise InvalidImageError(f"cannot be decoded: {error}") from error
