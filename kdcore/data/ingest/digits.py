"""The built-in set: handwritten digits, 1797 images of 8 x 8 pixels, as an archive like any other.

Source: the test set of https://archive.ics.uci.edu/dataset/80, as scikit-learn packs it.
"""

import io
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

_MAX_VALUE = 16
"""The data's own pixels go from 0 to 16."""


def write_archive(path: Path) -> None:
    """Write a zip of PNG files ``<digit>/<number>.png`` to ``path``."""
    # scikit-learn takes seconds to load, and only this set needs it.
    from sklearn.datasets import load_digits

    data = load_digits()
    pixels = np.rint(data.images * (255 / _MAX_VALUE)).astype(np.uint8)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for index, (image, digit) in enumerate(zip(pixels, data.target, strict=True)):
            file = io.BytesIO()
            Image.fromarray(image).save(file, "PNG")
            archive.writestr(zipfile.ZipInfo(f"{digit}/{index:04d}.png"), file.getvalue())
