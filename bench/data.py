"""Images per second of processor time: reading photographs with torchvision and with the store.

    python -m bench.data [--images 1000] [--rounds 5]

torchvision's ImageFolder decodes every image with PIL in every epoch. The engine decodes each file
once, into a store of uint8 pixels, and reads batches from the store. Both end with normalized
float32 batches of 64 random resized crops of 224 pixels, mirrored at random, and both keep freed
memory, as the engine's processes do. The photographs are parts of the two that scikit-learn ships,
500 by 375 pixels, JPEG quality 90. ImageFolder crops from the complete photograph, the engine from
the central square in the store. One thread; blocks of both alternate; ratios are of one round.
"""

import argparse
import itertools
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


def write_photographs(folder: Path, count: int) -> None:
    """Write ``count`` JPEG files into class folders."""
    sources = load_sample_images().images
    generator = np.random.default_rng(0)
    for index in range(count):
        photo = sources[index % len(sources)]
        top = generator.integers(0, photo.shape[0] - HEIGHT + 1)
        left = generator.integers(0, photo.shape[1] - WIDTH + 1)
        part = photo[top : top + HEIGHT, left : left + WIDTH]
        path = folder / "train" / f"class {index % CLASSES}" / f"{index:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part).save(path, quality=QUALITY)


def image_folder_epoch(folder: Path) -> Callable[[], int]:
    """Return a function that reads one epoch with torchvision and returns its number of images."""
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
    """Return a function that ingests the folder and returns its number of images."""
    packed = out / "photographs.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.write(path, path.relative_to(folder))
    count = sum(1 for _ in folder.rglob("*.jpg"))

    def run_ingestion() -> int:
        request = IngestRequest(source="archive", path=str(packed), image_size=SIDE)
        events = EventWriter(out / "events.jsonl", out)
        ingest(request, out, events, CancellationToken())
        events.close()
        return count

    return run_ingestion


def store_epoch(path: Path) -> Callable[[], int]:
    """Return a function that reads one epoch from the store and returns its number of images."""
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
    epochs = itertools.count(1)

    def read_epoch() -> int:
        epoch = next(epochs)
        return sum(
            len(prepare(loader.batch(epoch, step).images)) for step in range(loader.steps_per_epoch)
        )

    return read_epoch


def images_per_s(work: Callable[[], int]) -> float:
    """Return images per second of processor time."""
    start = time.process_time()
    return work() / (time.process_time() - start)


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
        write_photographs(folder, args.images)
        out.mkdir()
        run_ingestion = decode_once(folder, out)
        run_ingestion()
        works: dict[str, Callable[[], int]] = {
            "ImageFolder, every epoch": image_folder_epoch(folder),
            "decoding into the store, once": run_ingestion,
            "from the store, every epoch": store_epoch(out / "artifacts" / "dataset.safetensors"),
        }
        rounds: list[dict[str, Any]] = [
            {name: images_per_s(work) for name, work in works.items()} for _ in range(args.rounds)
        ]
    print("| | images per processor second | against ImageFolder |\n|---|---|---|")
    for name in works:
        ratios = [speeds[name] / next(iter(speeds.values())) for speeds in rounds]
        spread = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        print(f"| {name} | {statistics.median(speeds[name] for speeds in rounds):.0f} | {spread} |")


if __name__ == "__main__":
    main()
