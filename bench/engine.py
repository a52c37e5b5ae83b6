"""Images per second of the engine's loop and of a plain loop: ``make bench-engine``.

    python -m bench.engine [--images 2000] [--rounds 3] [--device cpu] [--pairs 1 2 3] [--loops ...]

Teachers have random weights, which do not change the speed. Blocks of every loop alternate in one
process. The table has ratios to the plain loop of the same round, median and range, by wall clock
and by processor time. Two rows are computed from the same blocks: a run of 240 epochs and 16 views,
filling the teacher cache included, and a second job with the same teacher and images, which reuses
the cache. If ``--loops`` names one loop, the peak of memory at the end is that loop's.
"""

import argparse
import contextlib
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.plain import BATCH, CLASSES, MEAN, SIDE, STD, PlainLoop
from kdcore.data import dataset
from kdcore.data.ingest import statistics as facts
from kdcore.data.types import SplitArrays, SubsetName
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.models.teachers import FrozenTeacher, TeacherEnsemble, freeze
from kdcore.runtime import limits
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.catalog import Normalization
from kdcore.schema.job import JobLimits, ResolvedJob
from kdcore.schema.methods import as_methods
from kdcore.schemes import planner
from kdcore.training.checkpoint import Checkpoints
from kdcore.training.compute import device as devices
from kdcore.training.compute.autocast_policy import NetworkSpec
from kdcore.training.context import JobContext
from kdcore.training.loop.trainer import Trainer
from kdcore.training.phase_teachers import teachers_for_phase
from kdcore.training.run_state import RunState, TimeBudget
from kdcore.training.teacher_cache.provider import CachedTeacherOutputs

PAIRS = (
    ("cifar/resnet32x4", "cifar/resnet8x4"),
    ("cifar/wrn_40_2", "cifar/wrn_16_2"),
    ("cifar/resnet56", "cifar/resnet20"),
)
WARM_UP = 3
EPOCHS = 10_000
LONG_EPOCHS, VIEWS = 240, 16
PLAIN, CACHED, ALONE = "plain", "cached, auto", "student alone, auto"
SWEEP, SWEEP_EPOCHS = 10, 30
LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "online, float32": ("kd", {"precision": "float32"}),
    "online, auto": ("kd", {}),
    "online, int8 teacher": ("kd", {"teacher_precision": "int8"}),
    CACHED: ("kd", {"views": 1}),
    ALONE: ("supervised", {}),
}
"""Loops of the engine: the method, and settings of its training."""


class Block(NamedTuple):
    """The speed of one block of steps."""

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
    parser.add_argument("--loops", nargs="+", default=[PLAIN, *LOOPS])
    args = parser.parse_args()
    limits.retain_freed_memory()
    print("| pair | loop | images/s | against plain, wall | against plain, processor |")
    print("|---|---|---|---|---|")
    for pair_number in args.pairs:
        pair = PAIRS[pair_number - 1]
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
            rounds, fill_s = measure(pair, Path(folder), stack, args)
        _print(pair, rounds)
        if {CACHED, ALONE} <= rounds[0].keys():
            _print_above_floor(pair, rounds, fill_s)
        if {PLAIN, CACHED} <= rounds[0].keys():
            _print_runs(pair, rounds, fill_s)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"Peak of resident memory: {peak:.0f} MiB")


def measure(
    pair: tuple[str, str], folder: Path, stack: contextlib.ExitStack, args: argparse.Namespace
) -> tuple[list[dict[str, Block]], float]:
    """Return the blocks of all loops by round, and the seconds of caching one image."""
    path = folder / "store"
    write_noise_store(path, args.images)
    data = dataset.load_dataset(path)
    device = devices.prepare_compute_env(
        args.device, args.threads, build_job(pair, "kd", precision="float32").training
    )
    loops: dict[str, Callable[[int], int]] = {}
    if PLAIN in args.loops:
        splits = data.images("train"), data.targets("train")
        loops[PLAIN] = PlainLoop(*pair, *splits, device.device).steps
    fill_s = 0.0
    for name, (method, overrides) in LOOPS.items():
        if name not in args.loops:
            continue
        events = EventWriter(folder / f"{name}.jsonl", folder)
        stack.callback(events.close)
        engine = EngineLoop(build_job(pair, method, **overrides), data, events, args)
        loops[name] = engine.steps
        fill_s += engine.cache_fill_s / args.images
    steps = -(-args.images // BATCH)
    for loop in loops.values():
        loop(WARM_UP)
    rounds = [
        {name: measure_block(loop, steps, device.device) for name, loop in loops.items()}
        for _ in range(args.rounds)
    ]
    return rounds, fill_s


class EngineLoop:
    """The engine's loop, run for some steps at a time."""

    def __init__(
        self, job: ResolvedJob, data: dataset.MappedDataset, events: EventWriter, args: Any
    ) -> None:
        classes = len(data.info.classes)
        sketch = NetworkSpec(job.student.network, classes, 3, SIDE)
        machine = devices.prepare_compute_env(args.device, args.threads, job.training, sketch)
        normalization = Normalization(mean=MEAN, std=STD)
        teachers = _random_teachers(job, classes, machine.device)
        task = JobContext(
            job=job,
            dataset=data,
            teachers=teachers,
            normalization=normalization,
            cache_folder=events.workdir,
        )
        session = RunState(
            compute_env=machine,
            events=events,
            cancellation=CancellationToken(),
            time_budget=TimeBudget(JobLimits(), 0.0),
            checkpoints=Checkpoints(events.workdir / "none", events),
            job_digest="",
            max_phases=1,
        )
        phase = planner.next_phase(job, [])
        assert phase is not None
        self.loop = Trainer(session, task, phase, teachers_for_phase(session, task, phase))
        self.loop.student_group.train()
        self.cache_fill_s = 0.0
        """Seconds of filling the cache with one view of all images; 0 without a cache."""
        cached_teacher = self.loop.student_group.teacher_outputs
        if isinstance(cached_teacher, CachedTeacherOutputs):
            cached_teacher.prepare_view(1, lambda: None, events)
            self.cache_fill_s = session.teacher_cache_stats.fill_s

    def steps(self, count: int) -> int:
        """Train for ``count`` steps and return the number of images."""
        for _ in range(count):
            self.loop.train_step(self.loop.state.step)
        return count * BATCH


def _random_teachers(job: ResolvedJob, num_classes: int, device: torch.device) -> TeacherEnsemble:
    if not job.teachers:
        return TeacherEnsemble(())
    torch.manual_seed(0)
    name = _TEACHERS[job.name]
    network = build(name, num_classes=num_classes, in_channels=3, input_size=SIDE)
    model = NormalizedModel(network, Normalization(mean=MEAN, std=STD), SIDE)
    return TeacherEnsemble([FrozenTeacher(freeze(model, device), identity="random")])


_TEACHERS: dict[str, str] = {}
"""Architecture of the teacher by the job's name."""


def build_job(pair: tuple[str, str], method: str, **training: Any) -> ResolvedJob:
    """Return a job with so many epochs that it does not end during a measurement."""
    name = " -> ".join(pair)
    _TEACHERS[name] = pair[0]
    has_teacher = method != "supervised"
    return ResolvedJob.model_validate(
        {
            "name": name,
            "student": {"architecture": pair[1]},
            "dataset": "ds_1",
            "teachers": [{"model": "mdl_1"}] if has_teacher else [],
            "method": as_methods(method),
            "label_weight": 0.1 if has_teacher else 1.0,
            "training": {
                "epochs": EPOCHS,
                "batch_size": BATCH,
                "augmentation": {"type": "crop_flip", "padding": 4, "flip": True},
                **training,
            },
            "evaluation": {"baseline": False},
            "seed": 7,
        }
    )


def write_noise_store(path: Path, count: int, num_classes: int = CLASSES) -> None:
    """Write a data set of noise, ``count`` images rounded up to full batches."""
    count = -(-count // BATCH) * BATCH
    generator = np.random.default_rng(0)

    def split(size: int) -> SplitArrays:
        images = generator.integers(0, 256, (size, 3, SIDE, SIDE), dtype=np.uint8)
        return SplitArrays(images, np.arange(size) % num_classes)

    sizes: dict[SubsetName, int] = {"train": count, "val": num_classes, "test": num_classes}
    splits = {name: split(size) for name, size in sizes.items()}
    classes = tuple(f"class {index}" for index in range(num_classes))
    dataset.write_dataset(path, splits, facts.describe(classes, splits, 0))


def measure_block(loop: Callable[[int], int], steps: int, device: torch.device) -> Block:
    """Return the speed of ``steps`` steps of ``loop``."""

    def now() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.process_time()

    wall, processor = now()
    images = loop(steps)
    wall_end, processor_end = now()
    return Block(images / (wall_end - wall), images / (processor_end - processor))


def _print(pair: tuple[str, str], rounds: list[dict[str, Block]]) -> None:
    first = next(iter(rounds[0]))
    for name in rounds[0]:
        wall = [blocks[name].wall for blocks in rounds]
        by_wall = _spread([blocks[name].wall / blocks[first].wall for blocks in rounds])
        by_processor = _spread(
            [blocks[name].processor / blocks[first].processor for blocks in rounds]
        )
        median = statistics.median(wall)
        print(f"| {_title(pair)} | {name} | {median:.1f} | {by_wall} | {by_processor} |")


def _print_runs(pair: tuple[str, str], rounds: list[dict[str, Block]], fill_s: float) -> None:
    """Print the computed speed of long runs."""
    plain = [1 / blocks[PLAIN].wall for blocks in rounds]
    cached = [1 / blocks[CACHED].wall for blocks in rounds]
    run_ratios = [
        LONG_EPOCHS * slow / (LONG_EPOCHS * fast + VIEWS * fill_s)
        for slow, fast in zip(plain, cached, strict=True)
    ]
    second_job = [slow / fast for slow, fast in zip(plain, cached, strict=True)]
    long_run = f"{LONG_EPOCHS} epochs, {VIEWS} views, computed"
    print(f"| {_title(pair)} | {long_run} | | {_spread(run_ratios)} | |")
    print(f"| {_title(pair)} | a second job, computed | | {_spread(second_job)} | |")
    print(f"| {_title(pair)} | filling the teacher cache | {1 / fill_s:.1f} | | |")


def _print_above_floor(
    pair: tuple[str, str], rounds: list[dict[str, Block]], fill_s: float
) -> None:
    """Print the time with a teacher cache, relative to students without a teacher."""
    alone = [1 / blocks[ALONE].wall for blocks in rounds]
    cached = [blocks[ALONE].wall / blocks[CACHED].wall for blocks in rounds]
    num_epochs = SWEEP * SWEEP_EPOCHS
    sweep = [
        ratio + VIEWS * fill_s / (num_epochs * floor)
        for ratio, floor in zip(cached, alone, strict=True)
    ]
    title = _title(pair)
    print(f"| {title} | cached, time over student alone | | {_spread(cached)} | |")
    print(
        f"| {title} | {SWEEP} students, {SWEEP_EPOCHS} epochs, over alone | | {_spread(sweep)} | |"
    )


def _title(pair: tuple[str, str]) -> str:
    return " -> ".join(word.removeprefix("cifar/") for word in pair)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"


if __name__ == "__main__":
    main()
