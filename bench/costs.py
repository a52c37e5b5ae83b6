"""What an image costs as the work grows: more classes, more images, a larger teacher.

    python -m bench.costs [--rounds 3] [--steps 20]

Milliseconds an image, batch 64, 32 pixels, two loops of the engine: teacher asked at every step,
and answers kept; and what asking once costs. Random weights and noise, one question at a time, all
else as in the first row of each table. Blocks alternate; medians.
"""

import argparse
import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from bench.engine import Ours, block, recipe_of, write_noise_store
from kdcore.data import dataset
from kdcore.runtime import limits
from kdcore.runtime.event_writer import EventWriter


class Work(NamedTuple):
    """How much there is to do."""

    teacher: str = "cifar/resnet56"
    num_classes: int = 100
    images: int = 2_000
    student: str = "cifar/resnet20"


QUESTIONS: dict[str, list[Work]] = {
    "classes": [Work(num_classes=count) for count in (10, 100, 1_000)],
    "images": [Work(images=count) for count in (2_000, 8_000, 32_000)],
    "teacher": [Work(f"cifar/{name}") for name in ("resnet20", "resnet56", "resnet32x4")],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    limits.retain_freed_memory()
    for question, works in QUESTIONS.items():
        print(f"\n| {question} | online, ms | kept, ms | asking once, ms |\n|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as open_:
            for row in _table(works, Path(folder), open_, args):
                print(row)


def _table(
    works: list[Work], folder: Path, open_: contextlib.ExitStack, args: argparse.Namespace
) -> list[str]:
    loops = [_loops(work, folder / str(index), open_) for index, work in enumerate(works)]
    spent: list[list[list[float]]] = [[[], []] for _ in works]
    for _ in range(args.rounds):
        for pair, times in zip(loops, spent, strict=True):
            for loop, samples in zip(pair, times, strict=True):
                samples.append(1000 / block(loop.steps, args.steps, torch.device("cpu")).wall)
    rows = []
    for work, (_, cached_loop), times in zip(works, loops, spent, strict=True):
        online, cached = (statistics.median(values) for values in times)
        once = 1000 * cached_loop.cache_fill_s / work.images
        name = f"{work.teacher.removeprefix('cifar/')}, {work.num_classes}, {work.images:,}"
        rows.append(f"| {name} | {online:.2f} | {cached:.2f} | {once:.2f} |")
    return rows


def _loops(work: Work, folder: Path, open_: contextlib.ExitStack) -> list[Ours]:
    folder.mkdir()
    write_noise_store(folder / "store", work.images, work.num_classes)
    data = dataset.load_dataset(folder / "store")
    loops = []
    for views in ("fresh", 1):
        events = EventWriter(folder / f"{views}.jsonl", folder)
        open_.callback(events.close)
        job = recipe_of((work.teacher, work.student), "kd", views=views)
        machine = argparse.Namespace(device="cpu", threads=None)
        loops.append(Ours(job, data, events, machine))
        loops[-1].steps(3)
    return loops


if __name__ == "__main__":
    main()
