"""Decode one image file to pixels. The bytes may be hostile."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from kdcore.data.image_signature import describe_file, image_format

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "TIFF", "AVIF")
FULL_RANGE = 1 << 16
"""Number of values of images that use all of their 16 bits."""
_REDUCING_GAP = 2
DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_GRAY_MODES = ("1", "L", "LA", *DEEP_MODES)
_ALPHA_MODES = ("LA", "PA", "RGBA", "RGBa", "La")
_LOW_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("B", "L"), ("L", "B"), ("N", "B"))
}
"""Pillow's layouts of colors with 16 bits, of which it reads the high bytes, and the layout that
reads the low bytes of the same file."""
_GRAY_ALPHA_LAYOUT = "LA;16B"
_BITS_TAG, _PHOTOMETRIC_TAG, _PLANES_TAG = 258, 262, 284
"""TIFF: BitsPerSample, PhotometricInterpretation and PlanarConfiguration."""


class InvalidImageError(Exception):
    """The bytes are not a usable image; the message says why."""


class ImageHeader(NamedTuple):
    """Facts of an image that are read without resizing it."""

    width: int
    height: int
    gray: bool
    transparent: bool = False
    """Whether it has an alpha channel or a transparent color."""
    animated: bool = False
    """Whether it has several frames or pages, of which only the first is read."""
    max_value: int | None = None
    """Largest value of an image with 16 bits; None for eight bits."""


def read_header(data: bytes, max_pixels: int) -> ImageHeader:
    """Read the header, and of images with 16 bits the largest value.

    Raises :class:`InvalidImageError`, also above ``max_pixels``.
    """
    with _open(data, max_pixels) as image:
        deep = _read_deep(image, data)
        return ImageHeader(
            *image.size,
            gray=image.mode in _GRAY_MODES,
            transparent=_is_transparent(image),
            animated=image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False),
            max_value=None if deep is None else int(deep[..., :3].max()),
        )


def power_of_two_above(max_value: int) -> int:
    """Return the number of values of images whose largest value is ``max_value``; at least 2."""
    return 1 << max(1, max_value.bit_length())


def decode(
    data: bytes, *, gray: bool, size: int, max_pixels: int, sixteen_bit_range: int = FULL_RANGE
) -> npt.NDArray[np.uint8]:
    """Decode the first frame to pixels (C, size, size), rotated as its EXIF data says.

    C is 1 for ``gray``, else 3. Sixteen bits with ``sixteen_bit_range`` values are scaled to eight,
    and transparent pixels become white. The central square of the image is resized with
    antialiasing. Raises :class:`InvalidImageError`, also above ``max_pixels``.
    """
    with _open(data, max_pixels) as image:
        # A JPEG can be decoded at a fraction of its size; twice the result is enough to resize.
        image.draft(None, (_REDUCING_GAP * size, _REDUCING_GAP * size))
        deep = _read_deep(image, data)
        image.load()
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        plain = image if deep is None else _as_eight_bits(image, deep, sixteen_bit_range)
        if deep is not None:
            plain.getexif()[ExifTags.Base.Orientation] = orientation
        turned = plain if orientation == 1 else ImageOps.exif_transpose(plain)
        return fit_image(turned, gray=gray, size=size)


def fit_image(
    image: Image.Image, *, gray: bool, size: int, sixteen_bit_range: int = FULL_RANGE
) -> npt.NDArray[np.uint8]:
    """Convert an image of any mode to pixels (C, size, size), by the rules of :func:`decode`."""
    if image.mode in DEEP_MODES:
        image = Image.fromarray(scale_to_eight_bits(np.asarray(image), sixteen_bit_range))
    plain, mode = composite_on_white(image), "L" if gray else "RGB"
    if plain.mode != mode:
        plain = plain.convert(mode)
    if plain.size != (size, size):
        plain = ImageOps.fit(plain, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(plain, dtype=np.uint8)
    return pixels[None] if gray else pixels.transpose(2, 0, 1)


def scale_to_eight_bits(values: npt.NDArray[Any], num_values: int) -> npt.NDArray[np.uint8]:
    """Scale integers from 0 to ``num_values - 1``, at most 16 bits, to 0..255, rounded."""
    most = num_values - 1
    clipped = np.clip(values, 0, most).astype(np.uint32)
    scaled: npt.NDArray[np.uint8] = ((clipped * 255 + most // 2) // most).astype(np.uint8)
    return scaled


def _read_deep(image: Image.Image, data: bytes) -> npt.NDArray[Any] | None:
    """Return the values (H, W) or (H, W, C) of an image with more than eight bits, else None."""
    if image.mode == "F":
        raise InvalidImageError("has floating-point pixels; save integers of 8 or 16 bits")
    if image.mode in DEEP_MODES:
        if _tiff_tag(image, _PHOTOMETRIC_TAG) == 0:
            raise InvalidImageError(
                "has more than 8 bits and white as 0 (PhotometricInterpretation 0); save it with "
                "black as 0 (PhotometricInterpretation 1)"
            )
        image.load()
        values = np.asarray(image)
        if values.min() < 0 or values.max() >= FULL_RANGE:
            raise InvalidImageError(
                f"has values from {values.min()} to {values.max()}; 0 to 65535 was expected"
            )
        return values[..., None]
    layout = _layout(image) if image.format in ("PNG", "TIFF") else ""
    if layout == _GRAY_ALPHA_LAYOUT:
        # Both bytes of the gray value and both of alpha are as many as four channels of 8 bits.
        pairs = _read_with_layout(data, "RGBA").view(">u2")
        return pairs[..., [0, 0, 0, 1]].astype(np.uint16)
    if not _has_deep_channels(image, layout):
        return None
    if layout not in _LOW_BYTES or _tiff_tag(image, _PLANES_TAG) == 2:
        raise InvalidImageError(
            f"has 16 bits in the layout {layout}, which is not read; save gray, RGB or RGBA "
            "channels, and the channels of a pixel together (PlanarConfiguration 1)"
        )
    low = _read_with_layout(data, _LOW_BYTES[layout]).astype(np.uint16)
    return np.asarray(image).astype(np.uint16) << 8 | low


def _has_deep_channels(image: Image.Image, layout: str) -> bool:
    bits = _tiff_tag(image, _BITS_TAG) or 0
    return ";16" in layout or (max(bits) if isinstance(bits, tuple) else bits) > 8


def _tiff_tag(image: Image.Image, tag: int) -> Any:
    """Return the value of a tag of a TIFF; None without it and for other formats."""
    return image.tag_v2.get(tag) if isinstance(image, TiffImagePlugin.TiffImageFile) else None


def _read_with_layout(data: bytes, layout: str) -> npt.NDArray[np.uint8]:
    """Read the bytes of a file as if its pixels had another of Pillow's layouts."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as second:
        second.tile = [_with_layout(tile, layout) for tile in second.tile]
        return np.asarray(second)


def _layout(image: Image.Image) -> str:
    """Return Pillow's name of the layout of the pixels in the file; empty if unknown."""
    tiles = getattr(image, "tile", None) or []
    options = tiles[0][3] if tiles else ""
    layout = options[0] if isinstance(options, tuple) and options else options
    return layout if isinstance(layout, str) else ""


def _with_layout(tile: Any, layout: str) -> Any:
    options = tile[3]
    return tile._replace(args=(layout, *options[1:]) if isinstance(options, tuple) else layout)


def _as_eight_bits(image: Image.Image, deep: npt.NDArray[Any], num_values: int) -> Image.Image:
    """Return the image with scaled colors; an alpha channel always uses all of its bits."""
    channels = [
        scale_to_eight_bits(deep[..., i], num_values if i < 3 else FULL_RANGE)
        for i in range(deep.shape[2])
    ]
    clear = image.info.get("transparency")
    if clear is not None and deep.shape[2] in (1, 3):
        # One color of the file, with all of its bits, is transparent.
        channels.append(np.where((deep == clear).all(axis=2), 0, 255).astype(np.uint8))
    pixels = channels[0] if len(channels) == 1 else np.stack(channels, axis=2)
    scaled = Image.fromarray(pixels)
    scaled.info = {k: v for k, v in image.info.items() if k != "transparency"}
    return scaled


def _is_transparent(image: Image.Image) -> bool:
    return image.mode in _ALPHA_MODES or "transparency" in image.info


def composite_on_white(image: Image.Image) -> Image.Image:
    """Return a transparent image as RGBA on white; an opaque one as it is."""
    if not _is_transparent(image):
        return image
    opaque = image.convert("RGBA")
    white = Image.new("RGBA", opaque.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, opaque)


@contextmanager
def _open(data: bytes, max_pixels: int) -> Iterator[Image.Image]:
    """Open an image; convert the exceptions and warnings of decoders in the block."""
    with warnings.catch_warnings():
        # A decompression bomb is only a warning; other warnings are about harmless metadata.
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                _check_size(image, max_pixels)
                yield image
        except (InvalidImageError, MemoryError):
            raise
        except UnidentifiedImageError as error:
            raise InvalidImageError(_unsupported_message(data)) from error
        except Exception as error:
            # Hostile bytes make decoders raise OSError, SyntaxError, struct.error and more.
            raise InvalidImageError(f"cannot be decoded: {error}") from error


def _check_size(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise InvalidImageError(f"has {width} x {height} pixels; at most {max_pixels} are allowed")


def _unsupported_message(data: bytes) -> str:
    damaged = image_format(data)
    if damaged in FORMATS:
        return f"cannot be decoded: it begins like a {damaged} image, but is damaged or cut off"
    readable = f"{', '.join(FORMATS[:-1])} and {FORMATS[-1]} images are read"
    return f"{describe_file(data) or 'is not an image'}; {readable}"
