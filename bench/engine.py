"""``make bench-engine``: images per second of the engine's loop and of a plain one, side by side.

    python -m bench.engine [--images 2000] [--rounds 3] [--device cpu] [--pairs 1 2 3] [--loops ...]

Teachers have random weights: speed does not depend on them. Blocks of every loop alternate in one
process; what is told are ratios to the plain loop of the same round, their median and range, by
wall clock and by processor time. From the same blocks, computed: what a run of 240 epochs and 16
views takes with the asking included, and a second job of the same teacher and images, which asks
nothing. With one loop named by ``--loops``, the peak of memory at the end is that loop's.
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

from bench.plain import BATCH, CLASSES, MEAN, SIDE, STD, Plain
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
LONG, VIEWS = 240, 16
PLAIN, CACHED, ALONE = "plain", "cached, auto", "student alone, auto"
SWEEP, SWEEP_EPOCHS = 10, 30
LOOPS: dict[str, tuple[str, dict[str, Any]]] = {
    "online, float32": ("kd", {"precision": "float32"}),
    "online, auto": ("kd", {}),
    "online, int8 teacher": ("kd", {"teacher_precision": "int8"}),
    CACHED: ("kd", {"views": 1}),
    ALONE: ("supervised", {}),
}
"""Of ours: method, and what is not by default."""


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
    parser.add_argument("--loops", nargs="+", default=[PLAIN, *LOOPS])
    args = parser.parse_args()
    limits.retain_freed_memory()
    print("| pair | loop | images/s | against plain, wall | against plain, processor |")
    print("|---|---|---|---|---|")
    for number in args.pairs:
        pair = PAIRS[number - 1]
        with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as open_:
            rounds, asking = measure(pair, Path(folder), open_, args)
        _print(pair, rounds)
        if {CACHED, ALONE} <= rounds[0].keys():
            _print_above_floor(pair, rounds, asking)
        if {PLAIN, CACHED} <= rounds[0].keys():
            _print_runs(pair, rounds, asking)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"Peak of resident memory: {peak:.0f} MiB")


def measure(
    pair: tuple[str, str], folder: Path, open_: contextlib.ExitStack, args: argparse.Namespace
) -> tuple[list[dict[str, Block]], float]:
    """Blocks of each loop, round by round; and the seconds that asking about one image takes."""
    path = folder / "store"
    write_noise_store(path, args.images)
    data = dataset.load_dataset(path)
    device = devices.prepare_compute_env(
        args.device, args.threads, recipe_of(pair, "kd", precision="float32").training
    )
    loops: dict[str, Callable[[int], int]] = {}
    if PLAIN in args.loops:
        splits = data.images("train"), data.targets("train")
        loops[PLAIN] = Plain(*pair, *splits, device.device).steps
    asking = 0.0
    for name, (method, overrides) in LOOPS.items():
        if name not in args.loops:
            continue
        events = EventWriter(folder / f"{name}.jsonl", folder)
        open_.callback(events.close)
        ours = Ours(recipe_of(pair, method, **overrides), data, events, args)
        loops[name] = ours.steps
        asking += ours.cache_fill_s / args.images
    steps = -(-args.images // BATCH)
    for loop in loops.values():
        loop(WARM_UP)
    rounds = [
        {name: block(loop, steps, device.device) for name, loop in loops.items()}
        for _ in range(args.rounds)
    ]
    return rounds, asking


class Ours:
    """The engine's own loop, a few steps at a time."""

    def __init__(
        self, job: ResolvedJob, data: dataset.MappedDataset, events: EventWriter, args: Any
    ) -> None:
        classes = len(data.info.classes)
        sketch = NetworkSpec(job.student.network, classes, 3, SIDE)
        machine = devices.prepare_compute_env(args.device, args.threads, job.training, sketch)
        normalization = Normalization(mean=MEAN, std=STD)
        teachers = TeacherEnsemble(())
        if job.teachers:
            torch.manual_seed(0)
            network = build(_TEACHER[job.name], num_classes=classes, in_channels=3, input_size=SIDE)
            behind = NormalizedModel(network, normalization, SIDE)
            teachers = TeacherEnsemble(
                [FrozenTeacher(freeze(behind, machine.device), identity="random")]
            )
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
        """Seconds that asking about one view of all images took, where it was kept."""
        cached_teacher = self.loop.student_group.teacher_outputs
        if isinstance(cached_teacher, CachedTeacherOutputs):
            cached_teacher.prepare_view(1, lambda: None, events)
            self.cache_fill_s = session.teacher_cache_stats.fill_s

    def steps(self, count: int) -> int:
        """Train so many steps; how many images that were."""
        for _ in range(count):
            self.loop.train_step(self.loop.state.step)
        return count * BATCH


_TEACHER: dict[str, str] = {}


def recipe_of(pair: tuple[str, str], method: str, **training: Any) -> ResolvedJob:
    """A job of teacher and student that does not end."""
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
                **training,
            },
            "evaluation": {"baseline": False},
            "seed": 7,
        }
    )


def write_noise_store(path: Path, count: int, num_classes: int = CLASSES) -> None:
    """Write noise in whole batches."""
    count = -(-count // BATCH) * BATCH
    generator = np.random.default_rng(0)

    def split(size: int) -> SplitArrays:
        images = generator.integers(0, 256, (size, 3, SIDE, SIDE), dtype=np.uint8)
        return SplitArrays(images, np.arange(size) % num_classes)

    sizes: dict[SubsetName, int] = {"train": count, "val": num_classes, "test": num_classes}
    splits = {name: split(size) for name, size in sizes.items()}
    classes = tuple(f"class {number}" for number in range(num_classes))
    dataset.write_dataset(path, splits, facts.describe(classes, splits, 0))


def block(loop: Callable[[int], int], steps: int, device: torch.device) -> Block:
    """How fast so many steps of ``loop`` are."""

    def now() -> tuple[float, float]:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter(), time.process_time()

    wall, processor = now()
    images = loop(steps)
    later, spent = now()
    return Block(images / (later - wall), images / (spent - processor))


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


def _print_runs(pair: tuple[str, str], rounds: list[dict[str, Block]], asking: float) -> None:
    """What follows for whole runs: seconds an image, times how often it is seen."""
    plain = [1 / blocks[PLAIN].wall for blocks in rounds]
    taught = [1 / blocks[CACHED].wall for blocks in rounds]
    run_ratios = [
        LONG * slow / (LONG * fast + VIEWS * asking)
        for slow, fast in zip(plain, taught, strict=True)
    ]
    second = [slow / fast for slow, fast in zip(plain, taught, strict=True)]
    print(
        f"| {_title(pair)} | {LONG} epochs, {VIEWS} views, computed | | {_spread(run_ratios)} | |"
    )
    print(f"| {_title(pair)} | a second job, computed | | {_spread(second)} | |")
    print(f"| {_title(pair)} | asking the teacher once | {1 / asking:.1f} | | |")


def _print_above_floor(
    pair: tuple[str, str], rounds: list[dict[str, Block]], asking: float
) -> None:
    """What a teacher adds to students alone: to one whose answers are kept, and to a sweep."""
    alone = [1 / blocks[ALONE].wall for blocks in rounds]
    taught = [blocks[ALONE].wall / blocks[CACHED].wall for blocks in rounds]
    seen = SWEEP * SWEEP_EPOCHS
    sweep = [
        ratio + VIEWS * asking / (seen * floor) for ratio, floor in zip(taught, alone, strict=True)
    ]
    title = _title(pair)
    print(f"| {title} | cached, time over student alone | | {_spread(taught)} | |")
    print(
        f"| {title} | {SWEEP} students, {SWEEP_EPOCHS} epochs, over alone | | {_spread(sweep)} | |"
    )


def _title(pair: tuple[str, str]) -> str:
    return " -> ".join(word.removeprefix("cifar/") for word in pair)


def _spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"


if __name__ == "__main__":
    main()
