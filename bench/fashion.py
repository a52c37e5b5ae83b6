"""Runs on Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), of which the four idx files are there."""

import gzip
import json
import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kdcore.data import dataset as store
from kdcore.protocol.requests import DatasetFile, RunRequest, TeacherFile
from kdcore.runtime.files import sha256_of
from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.defaults import resolve_job
from kdcore.schema.job import JobSpec

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker")
CLASSES = (*CLASSES, "bag", "boot")
Top1BySeed = dict[str, list[float]]
"""Test top-1 of each seed, by row."""


def images_of(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    """(N, 1, 32, 32) of the part ``name``, each image in the middle."""
    raw = np.frombuffer(_bytes(folder, f"{name}-images-idx3-ubyte")[16:], np.uint8)
    return np.pad(raw.reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))[:, None]


def halve(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(N, 1, S/2, S/2): each pixel the mean of four."""
    side = images.shape[-1]
    cells = images.reshape(-1, 1, side // 2, 2, side // 2, 2).astype(np.uint16)
    return (cells.sum(axis=(3, 5)) // 4).astype(np.uint8)


def labels_of(folder: Path, name: str) -> npt.NDArray[np.int64]:
    """(N,) of the part ``name``."""
    raw = _bytes(folder, f"{name}-labels-idx1-ubyte")[8:]
    return np.frombuffer(raw, np.uint8).astype(np.int64)


def _bytes(folder: Path, name: str) -> bytes:
    plain, packed = folder / name, folder / f"{name}.gz"
    return plain.read_bytes() if plain.exists() else gzip.decompress(packed.read_bytes())


class Taught(NamedTuple):
    """A teacher that an earlier run has trained."""

    architecture: str
    weights: Path
    dataset: Path
    """What it learned from, and was normalized by."""

    def file(self) -> TeacherFile:
        """As a run takes it."""
        info = store.load_dataset(self.dataset).info
        return TeacherFile(
            path=str(self.weights),
            sha256=sha256_of(self.weights),
            architecture=self.architecture,
            num_classes=len(CLASSES),
            in_channels=1,
            input_size=info.image_size,
            normalization=info.normalization,
            weight=1.0,
        )

    def facts(self) -> ModelFacts:
        """As a job is checked against it."""
        classes = len(CLASSES)
        return ModelFacts(architecture=self.architecture, num_classes=classes, in_channels=1)


def request_of(
    job: dict[str, Any], dataset: Path, teacher: Taught | None, device: str = "auto"
) -> RunRequest:
    """A run of ``job`` on one thread."""
    info = store.load_dataset(dataset).info
    known = DatasetFacts(
        source="fashion-mnist",
        num_classes=len(CLASSES),
        in_channels=1,
        image_size=info.image_size,
        num_train=info.splits["train"].count,
    )
    teachers = (teacher,) if teacher else ()
    spec = JobSpec.model_validate(
        {
            "dataset": "ds",
            "teachers": [{"model": "teacher"} for _ in teachers],
            "evaluation": {"baseline": False},
            **job,
        }
    )
    return RunRequest(
        job=resolve_job(spec, known, tuple(teacher_model.facts() for teacher_model in teachers)),
        dataset=DatasetFile(path=str(dataset), sha256=sha256_of(dataset)),
        teachers=tuple(teacher_model.file() for teacher_model in teachers),
        device=device,
        threads=1,
    )


def top1(request: RunRequest, workdir: Path) -> float:
    """Test top-1 of a run, from its earlier end or by running it now."""
    from kdcore.runtime.cancellation import CancellationToken
    from kdcore.runtime.event_writer import EventWriter
    from kdcore.training.run import run_job

    done = workdir / "report.json"
    if not done.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        events = EventWriter(workdir / "events.jsonl", workdir)
        try:
            run_job(request, workdir, events, CancellationToken())
        finally:
            events.close()
        lines = (workdir / "events.jsonl").read_text().splitlines()
        reports = [event for event in map(json.loads, lines) if event["type"] == "report"]
        done.write_text(json.dumps(reports[-1]["report"]))
    return float(json.loads(done.read_text())["student"]["top1"])


def all_of(runs: dict[tuple[str, int], tuple[RunRequest, Path]], processes: int) -> Top1BySeed:
    """Test top-1 of runs by name and seed, some at a time; tells of each that has ended."""
    results: Top1BySeed = {}
    # A process that has used an accelerator cannot be forked.
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=start, max_tasks_per_child=1) as pool:
        running = {key: pool.submit(top1, *run) for key, run in runs.items()}
        for (name, seed), future in running.items():
            results.setdefault(name, []).append(future.result())
            sys.stderr.write(f"{name}, seed {seed}: {results[name][-1]:.2f}\n")
    return results


def folder_of(name: str, seed: int) -> str:
    """Where a row's run of a seed is kept."""
    return f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"


def row_of(name: str, values: list[float], base: list[float]) -> str:
    """One line of a table, in Markdown: mean and deviation, and the same over ``base``."""
    mean, deviation = statistics.fmean(values), _deviation(values)
    gains = [value - other for value, other in zip(values, base, strict=False)]
    gain = f"{statistics.fmean(gains):+.2f} ± {_deviation(gains):.2f}" if gains else ""
    return f"| {name} | {mean:.2f} ± {deviation:.2f} | {gain} |"


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
