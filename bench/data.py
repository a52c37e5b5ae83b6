"""Images per second of processor time: reading photographs as others do, and as we do.

    python -m bench.data [--images 1000] [--rounds 5]

The others: torchvision's ImageFolder, PIL, one image at a time, at every epoch. We: each file is
decoded once, into a store of uint8 pixels, and every batch is made of the store. Freed memory is
held for both, as our processes do. Both end as normalized float32 batches of 64 random resized
crops, mirrored at random, 224 pixels wide. The photographs are parts of 500 by 375 pixels of the
two that scikit-learn ships, as JPEG of quality 90; theirs are cropped from the whole of it, ours
from the central square that the store has. One thread, blocks of both alternating, ratios of the
same round.
"""

import argparse
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from kdcore.data import dataset
from kdcore.data.ingest.pipeline import ingest
from kdcore.data.loader import Loader
from kdcore.models.normalized_model import NormalizedModel
from kdcore.protocol.requests import IngestRequest
from kdcore.runtime import limits
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.augmentation import RandomResizedCrop
from kdcore.schema.catalog import Normalization

WIDTH, HEIGHT, QUALITY = 500, 375, 90
SIDE, BATCH, CLASSES = 224, 64, 10
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def photographs(folder: Path, count: int) -> None:
    """Write ``count`` files in class folders."""
    sources = load_sample_images().images
    generator = np.random.default_rng(0)
    for number in range(count):
        photo = sources[number % len(sources)]
        top = generator.integers(0, photo.shape[0] - HEIGHT + 1)
        left = generator.integers(0, photo.shape[1] - WIDTH + 1)
        part = photo[top : top + HEIGHT, left : left + WIDTH]
        path = folder / "train" / f"class {number % CLASSES}" / f"{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part).save(path, quality=QUALITY)


def theirs(folder: Path) -> Callable[[], int]:
    """One epoch, as the libraries read it."""
    transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    loader = DataLoader(datasets.ImageFolder(folder / "train", transform), BATCH, shuffle=True)
    return lambda: sum(len(images) for images, _ in loader)


def decode_once(folder: Path, out: Path) -> Callable[[], int]:
    """Ingestion of the whole folder: everything that is done once."""
    packed = out / "photographs.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.write(path, path.relative_to(folder))
    count = sum(1 for _ in folder.rglob("*.jpg"))

    def once() -> int:
        request = IngestRequest(source="archive", path=str(packed), image_size=SIDE)
        events = EventWriter(out / "events.jsonl", out)
        ingest(request, out, events, CancellationToken())
        events.close()
        return count

    return once


def ours(path: Path) -> Callable[[], int]:
    """One epoch from the store."""
    data = dataset.load_dataset(path)
    loader = Loader(
        data.images("train"),
        data.targets("train"),
        batch_size=BATCH,
        augmentation=RandomResizedCrop(type="random_resized_crop", flip=True),
        seed=0,
        device=torch.device("cpu"),
    )
    prepare = NormalizedModel(nn.Identity(), Normalization(mean=MEAN, std=STD)).prepare
    epoch = iter(range(1, 1 << 30))

    def once() -> int:
        epoch_index = next(epoch)
        return sum(
            len(prepare(loader.batch(epoch_index, number).images))
            for number in range(loader.steps_per_epoch)
        )

    return once


def pace(work: Callable[[], int]) -> float:
    """Images per second of processor time."""
    began = time.process_time()
    return work() / (time.process_time() - began)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.data", description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    limits.retain_freed_memory()
    with tempfile.TemporaryDirectory() as name:
        folder, out = Path(name, "photographs"), Path(name, "out")
        photographs(folder, args.images)
        out.mkdir()
        once = decode_once(folder, out)
        once()
        works: dict[str, Callable[[], int]] = {
            "ImageFolder, every epoch": theirs(folder),
            "decoding into the store, once": once,
            "from the store, every epoch": ours(out / "artifacts" / "dataset.safetensors"),
        }
        rounds: list[dict[str, Any]] = [
            {name: pace(work) for name, work in works.items()} for _ in range(args.rounds)
        ]
    print("| | images per processor second | against ImageFolder |\n|---|---|---|")
    for name in works:
        ratios = [speeds[name] / next(iter(speeds.values())) for speeds in rounds]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        print(f"| {name} | {statistics.median(speeds[name] for speeds in rounds):.0f} | {spread} |")


if __name__ == "__main__":
    main()
