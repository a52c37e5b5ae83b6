"""A real training of 240 epochs and 16 views on 2,000 images, compared with the plain loop.

    python -m bench.complete_run [--pair 1] [--epochs 240] [--views 16] [--images 2000]

``python -m bench.engine`` computes the time of such a run from blocks of steps. This command runs
it: it fills the teacher cache, reads it, validates every epoch and writes checkpoints. Blocks of
the plain loop before and after give its time for the same number of images.
"""

import argparse
import tempfile
import time
from pathlib import Path

import torch

from bench.engine import (
    BATCH,
    LONG_EPOCHS,
    PAIRS,
    VIEWS,
    EngineLoop,
    build_job,
    measure_block,
    write_noise_store,
)
from bench.plain import PlainLoop
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
        plain = PlainLoop(*PAIRS[args.pair - 1], images, data.targets("train"), device)
        plain.steps(3)
        before = measure_block(plain.steps, len(images) // BATCH, device)
        events = EventWriter(folder / "events.jsonl", folder)
        job = build_job(PAIRS[args.pair - 1], "kd", views=args.views, epochs=args.epochs)
        machine = argparse.Namespace(device="cpu", threads=None)
        start = time.monotonic()
        engine = EngineLoop(job, data, events, machine)
        engine.loop.run()
        seconds = time.monotonic() - start
        events.close()
        after = measure_block(plain.steps, len(images) // BATCH, device)
    num_images = len(images) * args.epochs
    pace = (before.wall + after.wall) / 2
    print(f"{args.epochs} epochs of {len(images)} images, {args.views} views: {seconds:.0f} s")
    print(f"plain: {before.wall:.1f} and {after.wall:.1f} images/s, so {num_images / pace:.0f} s")
    print(f"ratio {num_images / pace / seconds:.2f}")


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.complete_run", description=__doc__)
    parser.add_argument("--pair", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=LONG_EPOCHS)
    parser.add_argument("--views", type=int, default=VIEWS)
    parser.add_argument("--images", type=int, default=2000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
