"""Uploads for tests: small archives of images, and a working directory to run commands in."""

import contextlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.event_writer import EventWriter


def png(seed: int, size: tuple[int, int] = (10, 10), mode: str = "RGB") -> bytes:
    """A PNG of random pixels."""
    shape = size[::-1] if mode == "L" else (*size[::-1], len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return encode_image(Image.fromarray(pixels, mode=None))


def encode_image(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def image_tree(
    per_class: int = 5, classes: tuple[str, ...] = ("ant", "bee"), prefix: str = ""
) -> dict[str, bytes]:
    """Members of a valid archive: class folders of random PNGs."""
    return {
        f"{prefix}{name}/{i}.png": png(1000 * position + i)
        for position, name in enumerate(classes)
        for i in range(per_class)
    }


def write_archive(
    path: Path, members: Mapping[str | zipfile.ZipInfo, bytes], compression: int = 0
) -> Path:
    """Write a zip to ``path``."""
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


class Workdir:
    """The working directory of one engine command, which runs in this process."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.cancellation = CancellationToken()

    def call(self, command: Any, request: Any) -> dict[str, Any]:
        """Run a command and return its report."""
        with contextlib.closing(EventWriter(self.path / "events.jsonl", self.path)) as events:
            command(request, self.path, events, self.cancellation)
        return [event for event in self.events() if event["type"] == "report"][-1]["report"]

    def events(self) -> list[dict[str, Any]]:
        """Every event so far."""
        text = (self.path / "events.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]
