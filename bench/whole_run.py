"""One whole training of 240 epochs and 16 views on 2,000 images, beside what its parts promise.

    python -m bench.whole_run [--pair 1] [--epochs 240] [--views 16] [--images 2000]

``python -m bench.engine`` computes how long such a run takes from blocks of steps. Here it is run:
the teacher asked about every view, kept answers read, every epoch validated, checkpoints written.
Blocks of the plain loop before and after say how long that would take for as many images.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from bench.engine import BATCH, LONG, PAIRS, VIEWS, Ours, block, recipe_of, write_noise_store
from bench.plain import Plain
from kdcore.data import dataset
from kdcore.runtime import limits
from kdcore.runtime.event_writer import EventWriter


def main() -> None:
    """Measure and print."""
    args = _parse_args()
    limits.retain_freed_memory()
    device = torch.device("cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_noise_store(folder / "store", args.images)
        data = dataset.load_dataset(folder / "store")
        images = data.images("train")
        plain = Plain(*PAIRS[args.pair - 1], images, data.targets("train"), device)
        plain.steps(3)
        before = block(plain.steps, len(images) // BATCH, device)
        events = EventWriter(folder / "events.jsonl", folder)
        recipe = recipe_of(PAIRS[args.pair - 1], "kd", views=args.views, epochs=args.epochs)
        machine = argparse.Namespace(device="cpu", threads=None)
        began = time.monotonic()
        ours = Ours(recipe, data, events, machine)
        ours.loop.run()
        seconds = time.monotonic() - began
        events.close()
        after = block(plain.steps, len(images) // BATCH, device)
    seen = len(images) * args.epochs
    pace = (before.wall + after.wall) / 2
    print(f"{args.epochs} epochs of {len(images)} images, {args.views} views: {seconds:.0f} s")
    print(f"plain: {before.wall:.1f} and {after.wall:.1f} images/s, so {seen / pace:.0f} s")
    print(f"ratio {seen / pace / seconds:.2f}")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.whole_run", description=__doc__)
    parser.add_argument("--pair", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=LONG)
    parser.add_argument("--views", type=int, default=VIEWS)
    parser.add_argument("--images", type=int, default=2000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
