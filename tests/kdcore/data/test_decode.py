"""One image file to pixels: modes, orientation, crops and refused formats."""

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


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "WEBP"])
def test_supported_formats_are_read(file_format):
    assert decode_as(Image.new("RGB", (4, 4), (200, 10, 10)), file_format)[0].mean() > 180


def test_crop_is_central():
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, 4:8] = 255
    assert (decode_as(Image.fromarray(wide)) == 255).all()


def test_other_formats_are_refused():
    for file_format in ("GIF", "TIFF", "PPM"):
        with pytest.raises(decode.InvalidImageError, match="is not a PNG"):
            decode_as(Image.new("L", (4, 4)), file_format)
