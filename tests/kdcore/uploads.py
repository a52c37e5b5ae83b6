"""What strangers send: small archives and checkpoints, good and hostile, made on the spot."""

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
    return encoded(Image.fromarray(pixels, mode=None))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tree(per_class: int = 5, classes: tuple[str, ...] = ("ant", "bee"), prefix: str = "") -> dict:
    """Members of a good archive."""
    return {
        f"{prefix}{name}/{i}.png": png(1000 * position + i)
        for position, name in enumerate(classes)
        for i in range(per_class)
    }


def archive(path: Path, members: Mapping[str | zipfile.ZipInfo, bytes], packing: int = 0) -> Path:
    with zipfile.ZipFile(path, "w", packing) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


class Room:
    """A workdir with events, to call a command in this process."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.stop = CancellationToken()

    def call(self, command: Any, request: Any) -> dict[str, Any]:
        """Run a command and return its report."""
        with contextlib.closing(EventWriter(self.path / "events.jsonl", self.path)) as events:
            command(request, self.path, events, self.stop)
        return [event for event in self.lines() if event["type"] == "report"][-1]["report"]

    def lines(self) -> list[dict[str, Any]]:
        text = (self.path / "events.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]
