"""Training time per image with more classes, more images and larger teachers.

    python -m bench.costs [--rounds 3] [--steps 20]

Milliseconds per image, batch 64, 32 pixels, for two loops of the engine, with the teacher at every
step and with a teacher cache, and for filling the cache. Random weights and noise. Each table
changes one property. Blocks of the loops alternate; values are medians.
"""

import argparse
import contextlib
import statistics
import tempfile
from pathlib import Path
from typing import NamedTuple

import torch

from bench.engine import EngineLoop, build_job, measure_block, write_noise_store
from kdcore.data import dataset
from kdcore.runtime import limits
from kdcore.runtime.event_writer import EventWriter


class Workload(NamedTuple):
    """The sizes that determine the time of an image."""

    teacher: str = "cifar/resnet56"
    num_classes: int = 100
    images: int = 2_000
    student: str = "cifar/resnet20"


TABLES: dict[str, list[Workload]] = {
    "classes": [Workload(num_classes=count) for count in (10, 100, 1_000)],
    "images": [Workload(images=count) for count in (2_000, 8_000, 32_000)],
    "teacher": [Workload(f"cifar/{name}") for name in ("resnet20", "resnet56", "resnet32x4")],
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20)
    args = parser.parse_args()
    limits.retain_freed_memory()
    for title, workloads in TABLES.items():
        print(f"\n| {title} | online, ms | cached, ms | cache fill, ms |\n|---|---|---|---|")
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            for row in _table(workloads, Path(folder), stack, args):
                print(row)


def _table(
    workloads: list[Workload], folder: Path, stack: contextlib.ExitStack, args: argparse.Namespace
) -> list[str]:
    loops = [
        _loops(workload, folder / str(index), stack) for index, workload in enumerate(workloads)
    ]
    times_ms: list[list[list[float]]] = [[[], []] for _ in workloads]
    for _ in range(args.rounds):
        for pair, times in zip(loops, times_ms, strict=True):
            for loop, samples in zip(pair, times, strict=True):
                samples.append(
                    1000 / measure_block(loop.steps, args.steps, torch.device("cpu")).wall
                )
    rows = []
    for workload, (_, cached_loop), times in zip(workloads, loops, times_ms, strict=True):
        online, cached = (statistics.median(values) for values in times)
        cache_fill = 1000 * cached_loop.cache_fill_s / workload.images
        teacher = workload.teacher.removeprefix("cifar/")
        name = f"{teacher}, {workload.num_classes}, {workload.images:,}"
        rows.append(f"| {name} | {online:.2f} | {cached:.2f} | {cache_fill:.2f} |")
    return rows


def _loops(workload: Workload, folder: Path, stack: contextlib.ExitStack) -> list[EngineLoop]:
    folder.mkdir()
    write_noise_store(folder / "store", workload.images, workload.num_classes)
    data = dataset.load_dataset(folder / "store")
    loops = []
    for views in ("fresh", 1):
        events = EventWriter(folder / f"{views}.jsonl", folder)
        stack.callback(events.close)
        job = build_job((workload.teacher, workload.student), "kd", views=views)
        machine = argparse.Namespace(device="cpu", threads=None)
        loops.append(EngineLoop(job, data, events, machine))
        loops[-1].steps(3)
    return loops


if __name__ == "__main__":
    main()
