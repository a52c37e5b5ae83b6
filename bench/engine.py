"""``make bench-engine``: images per second of the engine's loop and of a plain one, side by side.

    python -m bench.engine [--images 2000] [--rounds 3] [--device cpu] [--pairs 1 2 3]

Teachers have random weights: speed does not depend on them. Blocks of every loop alternate in one
process; what is told are ratios to the plain loop of the same round, their median and range, by
wall clock and by processor time.
"""

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.plain import BATCH, CLASSES, MEAN, SIDE, STD, Plain
from kdcore.data import facts, store
from kdcore.data.parts import Arrays, PartName
from kdcore.evaluation.teachers import Frozen, Teachers, frozen
from kdcore.models import build
from kdcore.models.preprocess import Normalised
from kdcore.process.events import EventWriter
from kdcore.process.stop import Stop
from kdcore.schemes import plan
from kdcore.spec.catalogue import Normalisation
from kdcore.spec.job import Limits, ResolvedJob
from kdcore.spec.methods import as_methods
from kdcore.training import device as devices
from kdcore.training.checkpoint import Checkpoints
from kdcore.training.lesson import lesson
from kdcore.training.loop import Loop
from kdcore.training.precision import Sketch
from kdcore.training.session import Clock, Session
from kdcore.training.task import Task

PAIRS = (
    ("cifar/resnet32x4", "cifar/resnet8x4"),
    ("cifar/wrn_40_2", "cifar/wrn_16_2"),
    ("cifar/resnet56", "cifar/resnet20"),
)
WARM_UP = 3
EPOCHS = 10_000


class Block(NamedTuple):
    """What one block of steps took."""

    wall: float
    """Images per second."""
    processor: float
    """Images per second of processor time, all threads together."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--pairs", type=int, nargs="+", default=[1, 2, 3])
    asked = parser.parse_args()
    print("| pair | loop | images/s | against plain, wall | against plain, processor |")
    print("|---|---|---|---|---|")
    for number in asked.pairs:
        pair = PAIRS[number - 1]
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as open_:
            rounds = measured(pair, Path(folder), open_, asked)
        _print(pair, rounds)


def measured(
    pair: tuple[str, str], folder: Path, open_: contextlib.ExitStack, asked: argparse.Namespace
) -> list[dict[str, Block]]:
    """Blocks of each loop, round by round."""
    path = folder / "store"
    _store(path, asked.images)
    data = store.load(path)
    device = devices.prepare(asked.device, asked.threads, _job(pair, "kd", "float32").training)
    loops: dict[str, Callable[[int], int]] = {
        "plain": Plain(*pair, data.images("train"), data.targets("train"), device.device).steps
    }
    for name, method, precision in (
        ("online, float32", "kd", "float32"),
        ("online, auto", "kd", "auto"),
        ("student alone, auto", "supervised", "auto"),
    ):
        events = EventWriter(folder / f"{name}.jsonl", folder)
        open_.callback(events.close)
        loops[name] = Ours(_job(pair, method, precision), data, events, asked).steps
    steps = -(-asked.images // BATCH)
    for loop in loops.values():
        loop(WARM_UP)
    return [
        {name: _block(loop, steps, device.device) for name, loop in loops.items()}
        for _ in range(asked.rounds)
    ]


class Ours:
    """The engine's own loop, a few steps at a time."""

    def __init__(
        self, job: ResolvedJob, data: store.DatasetStore, events: EventWriter, asked: Any
    ) -> None:
        sketch = Sketch(job.student.network, CLASSES, 3, SIDE)
        machine = devices.prepare(asked.device, asked.threads, job.training, sketch)
        normalisation = Normalisation(mean=MEAN, std=STD)
        teachers = Teachers(())
        if job.teachers:
            torch.manual_seed(0)
            network = build(_TEACHER[job.name], num_classes=CLASSES, in_channels=3, input_size=SIDE)
            behind = Normalised(network, normalisation, SIDE)
            teachers = Teachers([Frozen(frozen(behind, machine.device))])
        task = Task(job=job, store=data, teachers=teachers, normalisation=normalisation)
        session = Session(
            machine=machine,
            events=events,
            stop=Stop(),
            clock=Clock(Limits(), 0.0),
            checkpoints=Checkpoints(events.workdir / "none", events),
            job_digest="",
            phases=1,
        )
        phase = plan.next_phase(job, [])
        assert phase is not None
        self._loop = Loop(session, task, phase, lesson(session, task, phase))
        self._loop.cohort.train()

    def steps(self, count: int) -> int:
        """Train so many steps; how many images that were."""
        for _ in range(count):
            self._loop._train()
        return count * BATCH


_TEACHER: dict[str, str] = {}


def _job(pair: tuple[str, str], method: str, precision: str) -> ResolvedJob:
    name = " -> ".join(pair)
    _TEACHER[name] = pair[0]
    taught = method != "supervised"
    return ResolvedJob.model_validate(
        {
            "name": name,
            "student": {"architecture": pair[1]},
            "dataset": "ds_1",
            "teachers": [{"model": "mdl_1"}] if taught else [],
            "method": as_methods(method),
            "label_weight": 0.1 if taught else 1.0,
            "training": {
                "epochs": EPOCHS,
                "batch_size": BATCH,
                "augmentation": {"type": "crop_flip", "padding": 4, "flip": True},
                "precision": precision,
            },
            "evaluation": {"baseline": False},
            "seed": 7,
        }
    )


def _store(path: Path, count: int) -> None:
    count = -(-count // BATCH) * BATCH
    generator = np.random.default_rng(0)

    def split(size: int) -> Arrays:
        images = generator.integers(0, 256, (size, 3, SIDE, SIDE), dtype=np.uint8)
        return Arrays(images, np.arange(size) % CLASSES)

    sizes: dict[PartName, int] = {"train": count, "val": CLASSES, "test": CLASSES}
    splits = {name: split(size) for name, size in sizes.items()}
    classes = tuple(f"class {number}" for number in range(CLASSES))
    store.write(path, splits, facts.describe(classes, splits, 0))


def _block(loop: Callable[[int], int], steps: int, device: torch.device) -> Block:
    def now() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.process_time()

    wall, processor = now()
    images = loop(steps)
    later, spent = now()
    return Block(images / (later - wall), images / (spent - processor))


def _print(pair: tuple[str, str], rounds: list[dict[str, Block]]) -> None:
    for name in rounds[0]:
        wall = [each[name].wall for each in rounds]
        by_wall = _spread([each[name].wall / each["plain"].wall for each in rounds])
        by_processor = _spread([each[name].processor / each["plain"].processor for each in rounds])
        title = " -> ".join(word.removeprefix("cifar/") for word in pair)
        print(f"| {title} | {name} | {statistics.median(wall):.1f} | {by_wall} | {by_processor} |")


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"


if __name__ == "__main__":
    main()
