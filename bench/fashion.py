"""Runs on Fashion-MNIST (Xiao, Rasul & Vollgraf 2017), read from its four idx files."""

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
from kdcore.runtime.atomic_files import sha256_of
from kdcore.schema.asset_info import DatasetFacts, ModelFacts
from kdcore.schema.defaults import resolve_job
from kdcore.schema.job import JobSpec

CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker")
CLASSES = (*CLASSES, "bag", "boot")
Top1BySeed = dict[str, list[float]]
"""Test top-1 of each seed, by row."""


def read_images(folder: Path, name: str) -> npt.NDArray[np.uint8]:
    """Return the images of the part ``name``, (N, 1, 32, 32), padded with zeros."""
    raw = np.frombuffer(_read_idx(folder, f"{name}-images-idx3-ubyte")[16:], np.uint8)
    return np.pad(raw.reshape(-1, 28, 28), ((0, 0), (2, 2), (2, 2)))[:, None]


def halve(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return images (N, 1, S/2, S/2) whose pixels are means of four pixels."""
    side = images.shape[-1]
    cells = images.reshape(-1, 1, side // 2, 2, side // 2, 2).astype(np.uint16)
    return (cells.sum(axis=(3, 5)) // 4).astype(np.uint8)


def read_labels(folder: Path, name: str) -> npt.NDArray[np.int64]:
    """Return the labels of the part ``name``, (N,)."""
    raw = _read_idx(folder, f"{name}-labels-idx1-ubyte")[8:]
    return np.frombuffer(raw, np.uint8).astype(np.int64)


def _read_idx(folder: Path, name: str) -> bytes:
    path, packed = folder / name, folder / f"{name}.gz"
    return path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())


class TrainedTeacher(NamedTuple):
    """A teacher from an earlier run."""

    architecture: str
    weights: Path
    dataset: Path
    """Its training data, with the normalization."""

    def file(self) -> TeacherFile:
        """Return the teacher as a run's request has it."""
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
        """Return the teacher as validation reads it."""
        classes = len(CLASSES)
        return ModelFacts(architecture=self.architecture, num_classes=classes, in_channels=1)


def build_request(
    job: dict[str, Any], dataset: Path, teacher: TrainedTeacher | None, device: str = "auto"
) -> RunRequest:
    """Return the request of ``job`` with one thread."""
    info = store.load_dataset(dataset).info
    facts = DatasetFacts(
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
        job=resolve_job(spec, facts, tuple(teacher_model.facts() for teacher_model in teachers)),
        dataset=DatasetFile(path=str(dataset), sha256=sha256_of(dataset)),
        teachers=tuple(teacher_model.file() for teacher_model in teachers),
        device=device,
        threads=1,
    )


def run_top1(request: RunRequest, workdir: Path) -> float:
    """Return the test top-1 of a run, which is started unless it has finished before."""
    from kdcore.runtime.cancellation import CancellationToken
    from kdcore.runtime.event_writer import EventWriter
    from kdcore.training.run import run_job

    report_path = workdir / "report.json"
    if not report_path.exists():
        workdir.mkdir(parents=True, exist_ok=True)
        events = EventWriter(workdir / "events.jsonl", workdir)
        try:
            run_job(request, workdir, events, CancellationToken())
        finally:
            events.close()
        lines = (workdir / "events.jsonl").read_text().splitlines()
        reports = [event for event in map(json.loads, lines) if event["type"] == "report"]
        report_path.write_text(json.dumps(reports[-1]["report"]))
    return float(json.loads(report_path.read_text())["student"]["top1"])


def run_all(runs: dict[tuple[str, int], tuple[RunRequest, Path]], processes: int) -> Top1BySeed:
    """Run ``processes`` runs at a time, log each result and return the test top-1 by name."""
    results: Top1BySeed = {}
    # A process that uses an accelerator must not be forked.
    start = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=start, max_tasks_per_child=1) as pool:
        running = {key: pool.submit(run_top1, *run) for key, run in runs.items()}
        for (name, seed), future in running.items():
            results.setdefault(name, []).append(future.result())
            sys.stderr.write(f"{name}, seed {seed}: {results[name][-1]:.2f}\n")
    return results


def run_folder_name(name: str, seed: int) -> str:
    """Return the name of the folder for a row and a seed."""
    return f"{name.replace(', ', '-').replace(' ', '_')}-{seed}"


def table_row(name: str, values: list[float], base: list[float]) -> str:
    """Return a Markdown row: mean and deviation, and those of the difference to ``base``."""
    mean, deviation = statistics.fmean(values), _deviation(values)
    gains = [value - other for value, other in zip(values, base, strict=False)]
    gain = f"{statistics.fmean(gains):+.2f} ± {_deviation(gains):.2f}" if gains else ""
    return f"| {name} | {mean:.2f} ± {deviation:.2f} | {gain} |"


def _deviation(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0
