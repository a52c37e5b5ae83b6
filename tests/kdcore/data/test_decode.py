"""One image file to pixels: modes, orientation, crops and refused formats."""

import contextlib
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from kdcore.data import decode
from tests.kdcore.uploads import encode_image


def decode_as(image, file_format="PNG", *, gray=False, size=4, **options):
    data = encode_image(image, file_format, **options)
    return decode.decode(data, gray=gray, size=size, max_pixels=10_000)


def test_sixteen_bits_are_scaled():
    deep = np.array([[0, 257, 65_535, 32_768]] * 4, np.uint16)
    assert decode_as(Image.fromarray(deep), gray=True)[0, 0].tolist() == [0, 1, 255, 128]


def test_transparency_becomes_white():
    assert (decode_as(Image.new("RGBA", (4, 4), (9, 9, 9, 0))) == 255).all()
    palette = Image.new("P", (4, 4), 0)
    assert (decode_as(palette, transparency=0) == 255).all()


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (16, 16))
    image.paste((255, 255, 255), (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = decode_as(image, "JPEG", size=16, exif=exif, quality=100)
    # Turned by a quarter: the white half moves from the top to the right.
    assert upright[0, 8, 14] > 200
    assert upright[0, 8, 1] < 50


@pytest.mark.parametrize(
    "file_format", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM", "AVIF"]
)
def test_supported_formats_are_read(file_format):
    assert decode_as(Image.new("RGB", (4, 4), (200, 10, 10)), file_format)[0].mean() > 180


def test_crop_is_central():
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 255
    assert (decode_as(Image.fromarray(wide)) == 255).all()


def test_formats_that_cannot_be_decoded_are_named():
    for data, words in (
        (encode_image(Image.new("L", (4, 4)), "ICO"), "is not an image; PNG, JPEG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC image; PNG, JPEG"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"  <!doctype html><title>", "is an HTML page"),
        (b"", "is empty"),
        (encode_image(Image.new("L", (4, 4)))[:40], "begins like a PNG image, but is damaged"),
    ):
        with pytest.raises(decode.InvalidImageError, match=words):
            decode.read_header(data, 10_000)


def test_the_first_frame_counts():
    red, blue = (Image.new("RGB", (4, 4), color) for color in ((255, 0, 0), (0, 0, 255)))
    for file_format in ("GIF", "TIFF", "WEBP", "PNG"):
        data = encode_image(red, file_format, save_all=True, append_images=[blue])
        assert decode.read_header(data, 99).animated, file_format
        assert decode.decode(data, gray=False, size=4, max_pixels=99)[0].min() > 250, file_format
        assert not decode.read_header(encode_image(red, file_format), 99).animated, file_format


def test_transparency_is_in_the_header():
    palette = encode_image(Image.new("P", (4, 4)), transparency=0)
    assert decode.read_header(palette, 99).transparent
    assert decode.read_header(encode_image(Image.new("LA", (4, 4))), 99).transparent
    assert not decode.read_header(encode_image(Image.new("RGB", (4, 4))), 99).transparent


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_twelve_bits_in_sixteen_use_a_smaller_range(file_format):
    deep = np.array([[0, 4095, 2048, 16]] * 4, np.uint16)
    data = encode_image(Image.fromarray(deep), file_format)
    assert decode.read_header(data, 99).max_value == 4095
    num_values = decode.power_of_two_above(4095)
    assert num_values == 4096
    pixels = decode.decode(data, gray=True, size=4, max_pixels=99, sixteen_bit_range=num_values)
    assert pixels[0, 0].tolist() == [0, 255, 128, 1]


def encode_sixteen_bit_png(values, clear=()):
    """A PNG with 16 bits for each color, which Pillow cannot write: values (H, W, C).

    The color ``clear`` is transparent.
    """
    height, width, channels = values.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    header = struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    transparency = [(b"tRNS", struct.pack(f">{channels}H", *clear))] if clear else []
    data = (b"IDAT", zlib.compress(rows))
    chunks = ((b"IHDR", header), *transparency, data, (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def test_colors_with_sixteen_bits_keep_their_low_bits():
    values = np.zeros((4, 4, 3), np.uint16)
    values[..., 0], values[:, 1, 1], values[:, 2, 2] = 4095, 2048, 273
    data = encode_sixteen_bit_png(values)
    assert decode.read_header(data, 99).max_value == 4095
    pixels = decode.decode(data, gray=False, size=4, max_pixels=99, sixteen_bit_range=4096)
    assert pixels[:, 0].tolist() == [[255] * 4, [0, 128, 0, 0], [0, 0, 17, 0]]
    full_range = decode.decode(data, gray=False, size=4, max_pixels=99)
    assert full_range[0].max() == 16
    opaque = np.concatenate([values, np.full((4, 4, 1), 65_535, np.uint16)], axis=2)
    opaque[3, 3, 3] = 0
    data = encode_sixteen_bit_png(opaque)
    assert decode.read_header(data, 99).max_value == 4095
    with_alpha = decode.decode(data, gray=False, size=4, max_pixels=99, sixteen_bit_range=4096)
    assert (with_alpha[:, :3] == pixels[:, :3]).all()
    assert with_alpha[:, 3, 3].tolist() == [255] * 3


@pytest.mark.parametrize("channels", [1, 3])
def test_transparent_color_with_sixteen_bits_becomes_white(channels):
    values = np.zeros((4, 4, channels), np.uint16)
    values[0, :, 0] = [4095, 4094, 4080, 0]
    data = encode_sixteen_bit_png(values, clear=values[0, 1].tolist())
    assert decode.read_header(data, 99).transparent
    pixels = decode.decode(data, gray=False, size=4, max_pixels=99, sixteen_bit_range=4096)
    assert pixels[0, 0].tolist() == [255, 255, 254, 0]
    assert pixels[channels - 1, 0].tolist() == (
        [255, 255, 254, 0] if channels == 1 else [0, 255, 0, 0]
    )


def test_gray_with_alpha_keeps_its_low_bits():
    values = np.full((4, 4, 2), 65_535, np.uint16)
    values[..., 0] = [0, 4095, 2048, 273]
    values[3, 3, 1] = 0
    data = encode_sixteen_bit_png(values)
    header = decode.read_header(data, 99)
    assert (header.max_value, header.transparent) == (4095, True)
    pixels = decode.decode(data, gray=True, size=4, max_pixels=99, sixteen_bit_range=4096)
    assert pixels[0, ::3].tolist() == [[0, 255, 128, 17], [0, 255, 128, 255]]


def encode_sixteen_bit_tiff(channels, photometric, **tags):
    """A TIFF of 4 x 4 pixels with 16 bits, which Pillow cannot write: extra tags by number."""
    entries = {
        256: (3, [4]),
        257: (3, [4]),
        258: (3, [16] * channels),
        259: (3, [1]),
        262: (3, [photometric]),
        273: (4, [8]),
        277: (3, [channels]),
        278: (3, [4]),
        279: (4, [32 * channels]),
    } | {int(name[1:]): (3, [value]) for name, value in tags.items()}
    data = np.full(16 * channels, 4095, "<u2").tobytes()
    table, extra = b"", b""
    offset = 8 + len(data) + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        packed = struct.pack(f"<{len(values)}{'HI'[kind - 3]}", *values)
        if len(packed) > 4:
            packed, extra = struct.pack("<I", offset + len(extra)), extra + packed
        table += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return head + data + struct.pack("<H", len(entries)) + table + bytes(4) + extra


@pytest.mark.parametrize(
    ("channels", "photometric", "tags", "words"),
    [
        (1, 0, {}, "white as 0"),
        (4, 2, {"t338": 0}, "layout RGBX;16L"),
        (4, 2, {"t338": 1}, "layout RGBa;16L"),
        (4, 5, {}, "layout CMYK;16L"),
        (3, 2, {"t284": 2}, "PlanarConfiguration 1"),
    ],
)
def test_other_layouts_of_sixteen_bits_are_refused(channels, photometric, tags, words):
    data = encode_sixteen_bit_tiff(channels, photometric, **tags)
    with pytest.raises(decode.InvalidImageError, match=words):
        decode.read_header(data, 99)
    readable = encode_sixteen_bit_tiff(3 if channels > 1 else 1, 2 if channels > 1 else 1)
    assert decode.read_header(readable, 99).max_value == 4095


def test_orientation_of_deep_images_is_applied():
    deep = np.zeros((4, 4), np.uint16)
    deep[:2] = 65_535
    for file_format in ("PNG", "TIFF"):
        exif = Image.Exif()
        exif[0x0112] = 6
        upright = decode_as(Image.fromarray(deep), file_format, gray=True, exif=exif)
        assert upright[0].tolist() == [[0, 0, 255, 255]] * 4, file_format


def test_floating_point_pixels_are_refused():
    data = encode_image(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    with pytest.raises(decode.InvalidImageError, match="floating-point"):
        decode.read_header(data, 99)


@pytest.mark.parametrize(
    ("mode", "file_format"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "GIF"), ("1", "TIFF")]
)
def test_modes_become_colors(mode, file_format):
    image = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    assert (decode_as(image, file_format, size=8) > 250).all()


@pytest.mark.parametrize("file_format", decode.FORMATS)
def test_random_damage_raises_only_invalid_image_errors(file_format):
    chance = np.random.default_rng(5)
    pixels = chance.integers(0, 256, (24, 24, 3), dtype=np.uint8)
    good = encode_image(Image.fromarray(pixels), file_format)
    deep = encode_image(Image.fromarray(pixels[..., 0].astype(np.uint16) * 9), "TIFF")
    for trial in range(40):
        data = bytearray(deep if file_format == "TIFF" and trial % 2 else good)
        for offset in chance.integers(0, min(len(data), 400), chance.integers(1, 8)):
            data[offset] = chance.integers(256)
        for read in (decode.read_header, decode_to_four):
            with contextlib.suppress(decode.InvalidImageError):
                read(bytes(data[: len(data) - trial * 2]), 10_000)


def decode_to_four(data, max_pixels):
    return decode.decode(data, gray=False, size=4, max_pixels=max_pixels)
