"""One image file to pixels. Every byte here comes from a stranger."""

import io
import warnings
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_REDUCING_GAP = 2
_DEEP = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_GREY = ("1", "L", "LA", *_DEEP)


class BadImage(Exception):  # noqa: N818 - the caller makes an item of it
    """The bytes are no image that can be used; the message says why."""


class Shape(NamedTuple):
    """What an image's header says."""

    width: int
    height: int
    grey: bool


def peek(data: bytes, max_pixels: int) -> Shape:
    """Read the header alone. Raises BadImage, also for more than ``max_pixels``."""
    with _guarded(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return _checked_shape(image, max_pixels)


def _checked_shape(image: Image.Image, max_pixels: int) -> Shape:
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage(f"is {width} x {height} pixels; at most {max_pixels} are read")
    return Shape(width, height, image.mode in _GREY)


def decode(data: bytes, *, grey: bool, size: int, max_pixels: int) -> npt.NDArray[np.uint8]:
    """Pixels (C, size, size) of the first frame, upright as its EXIF data says.

    C is 1 for ``grey`` (sixteen bits are scaled to eight) and 3 else; what is transparent becomes
    white. An image of another shape is cropped to its central square and resized with
    antialiasing, which keeps its shorter side. Raises BadImage.
    """
    with _guarded(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
        _checked_shape(image, max_pixels)
        # A JPEG can be decoded at an eighth of its size; what is left is enough to resize well.
        image.draft(None, (_REDUCING_GAP * size, _REDUCING_GAP * size))
        image.load()
        upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        turned = image if upright else ImageOps.exif_transpose(image)
        return fitted(turned, grey=grey, size=size)


def fitted(image: Image.Image, *, grey: bool, size: int) -> npt.NDArray[np.uint8]:
    """Pixels (C, size, size) of an image of any mode, by the rules of :func:`decode`."""
    plain, mode = _flatten(image), "L" if grey else "RGB"
    if plain.mode != mode:
        plain = plain.convert(mode)
    if plain.size != (size, size):
        plain = ImageOps.fit(plain, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(plain, dtype=np.uint8)
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _flatten(image: Image.Image) -> Image.Image:
    """Eight bits and no transparency."""
    if image.mode in _DEEP:
        deep = np.asarray(image).astype(np.int64).clip(0, 65_535)
        return Image.fromarray(((deep * 255 + 32_767) // 65_535).astype(np.uint8))
    if image.mode in ("LA", "PA", "RGBA", "RGBa", "La") or "transparency" in image.info:
        opaque = image.convert("RGBA")
        white = Image.new("RGBA", opaque.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, opaque)
    return image


class _guarded:  # noqa: N801 - reads as a verb in a with statement
    """Turn whatever a decoder raises or warns of into BadImage."""

    def __enter__(self) -> None:
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        # A decompression bomb is only warned of; other warnings speak of harmless metadata.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._warnings.__exit__(None, None, None)
        if isinstance(error, BadImage | MemoryError) or not isinstance(error, Exception):
            return
        # Decoders raise nearly anything on hostile bytes: OSError, SyntaxError, struct.error, …
        if isinstance(error, UnidentifiedImageError):
            raise BadImage(f"is no {', '.join(FORMATS[:-1])} or {FORMATS[-1]} image") from error
        raise BadImage(f"cannot be decoded: {error}") from error
