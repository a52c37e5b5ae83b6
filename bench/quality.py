"""Quality of every method and scheme, compared with a student trained on labels alone.

    python -m bench.quality --data DIR [--out DIR] [--results DIR]
        [--cells noisy-12 clean-12 ...] [--methods kd mutual ...] [--seeds 0 1 2]

The setting is the one that the service is for: a large teacher trained on clean labels, and few
images for the student. Fashion-MNIST at 16 pixels; teacher resnet20 on 20,000 clean images;
students resnet8 on 2,500 other images. Validation and test labels are clean. A cell is a kind of
labels and a number of epochs: `noisy` labels are drawn at random for 40 % of the images, `few` are
100 labels beside 2,400 images without one. All students of a cell make the same number of steps.

Each run leaves one file in the folder of results, and a run that has its file is not repeated. A
row that is worse than labels alone, or than its published weight, runs again with five seeds. Worse
is a mean difference, paired by seed, below zero by more than twice its standard error and by more
than one point.
"""

import argparse
import json
import math
import shutil
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.fashion import (
    CLASSES,
    TrainedTeacher,
    build_request,
    halve,
    read_images,
    read_labels,
    run_folder_name,
    run_top1,
)
from kdcore.data import dataset as store
from kdcore.data.ingest import statistics as ingest_statistics
from kdcore.data.types import SplitArrays, SubsetName
from kdcore.protocol.requests import RunRequest
from kdcore.schema.methods import METHODS

RESULTS = Path(__file__).parent.parent / "docs" / "reference" / "quality"
TEACHER, STUDENT, ASSISTANT = "cifar/resnet20", "cifar/resnet8", "cifar/resnet14"
TEACHER_IMAGES, STUDENT_IMAGES, VAL, TEST = 20_000, 2_500, 1_000, 5_000
NOISE, FEW, BATCH = 0.4, 100, 64
TEACHER_EPOCHS = 6
SUPERVISED, PUBLISHED = "supervised", ", published"
MORE_SEEDS = (0, 1, 2, 3, 4)
WORSE_POINTS, WORSE_ERRORS = 1.0, 2.0


class Cell(NamedTuple):
    """A setting in which every row is run."""

    labels: str
    """The data set: `noisy`, `clean` or `few`."""
    epochs: int
    seeds: tuple[int, ...]


CELLS = {
    "noisy-12": Cell("noisy", 12, (0, 1, 2)),
    "clean-12": Cell("clean", 12, (0, 1, 2)),
    "few-12": Cell("few", 12, (0, 1, 2)),
    "noisy-3": Cell("noisy", 3, (0, 1)),
    "noisy-40": Cell("noisy", 40, (0, 1)),
}
PUBLISHED_CELL = "noisy-12"
"""The cell in which published weights are run, too."""


def _auto(*names: str) -> dict[str, Any]:
    return {"method": [{"type": name, "weight": "auto"} for name in names]}


ROWS: dict[str, dict[str, Any]] = {
    SUPERVISED: {"method": SUPERVISED},
    **{name: _auto(name) for name in METHODS if name != SUPERVISED},
    "kd, soft labels only": {**_auto("kd"), "label_weight": 0},
    "batch_logits beside kd": _auto("kd", "batch_logits"),
    "mutual": {"scheme": {"type": "mutual"}},
    "mutual, with the teacher": {"scheme": {"type": "mutual"}, **_auto("kd")},
    "born_again": {"scheme": {"type": "born_again", "generations": 2}, **_auto("kd")},
    "teacher_assistant": {
        "scheme": {"type": "teacher_assistant", "assistants": [ASSISTANT]},
        **_auto("kd"),
    },
    "label_refinery": {"scheme": {"type": "label_refinery", "max_rounds": 2}},
}
"""The settings that each row changes in the job."""
PUBLISHED_ROWS = {
    name + PUBLISHED: {"method": {"type": name, "weight": "published"}}
    for name in METHODS
    if name != SUPERVISED
}
WITHOUT_TEACHER = (SUPERVISED, "mutual")
NEEDS_LABELS = tuple(
    name for name, params in METHODS.items() if {"target", "index"} & {*params.needs}
)
"""Rows that cannot use images without a label."""


@dataclass(frozen=True)
class QualityFiles:
    """The files that all runs share."""

    folder: Path

    @property
    def teacher(self) -> Path:
        """The trained teacher's weights."""
        return self.folder / "teacher" / "artifacts" / "student.safetensors"

    def dataset(self, labels: str) -> Path:
        """The data of the teacher (`teacher`) or of the students of a cell."""
        return self.folder / f"{labels}.safetensors"


def prepare(data: Path, files: QualityFiles) -> None:
    """Write the data sets, with the same images and noise in every call."""
    images, labels = halve(read_images(data, "train")), read_labels(data, "train")
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    teacher_end, student_end = TEACHER_IMAGES, TEACHER_IMAGES + STUDENT_IMAGES
    val = SplitArrays(images[student_end:][:VAL], labels[student_end:][:VAL])
    test = SplitArrays(halve(read_images(data, "t10k"))[:TEST], read_labels(data, "t10k")[:TEST])
    student_images, true = images[teacher_end:student_end], labels[teacher_end:student_end]
    generator = np.random.default_rng(1)
    is_noisy = generator.random(STUDENT_IMAGES) < NOISE
    noisy = np.where(is_noisy, generator.integers(0, len(CLASSES), STUDENT_IMAGES), true)
    few: dict[SubsetName, SplitArrays] = {
        "train": SplitArrays(student_images[:FEW], true[:FEW]),
        "unlabeled": SplitArrays(student_images[FEW:], np.full(STUDENT_IMAGES - FEW, -1)),
    }
    trains: dict[str, dict[SubsetName, SplitArrays]] = {
        "teacher": {"train": SplitArrays(images[:teacher_end], labels[:teacher_end])},
        "noisy": {"train": SplitArrays(student_images, noisy)},
        "clean": {"train": SplitArrays(student_images, true)},
        "few": few,
    }
    for name, train in trains.items():
        splits = {**train, "val": val, "test": test}
        info = ingest_statistics.describe(CLASSES, splits, 0)
        store.write_dataset(files.dataset(name), splits, info)


def train_teacher(files: QualityFiles) -> float:
    """Train the teacher unless an earlier call did; return its test top-1 in percent."""
    job = {
        "student": {"architecture": TEACHER},
        "method": SUPERVISED,
        "training": {"epochs": TEACHER_EPOCHS, "batch_size": 128},
    }
    workdir = files.folder / "teacher"
    return run_top1(build_request(job, files.dataset("teacher"), None), workdir)


def request(files: QualityFiles, cell: Cell, row: str, seed: int) -> RunRequest:
    """Return the run of one student."""
    job = {
        "student": {"architecture": STUDENT},
        "training": {
            "epochs": _epochs(cell, row),
            "batch_size": BATCH,
            "optimizer": {"type": "sgd"},
        },
        "seed": seed,
        **(ROWS | PUBLISHED_ROWS)[row],
    }
    teacher = TrainedTeacher(TEACHER, files.teacher, files.dataset("teacher"))
    with_teacher = row not in WITHOUT_TEACHER
    return build_request(job, files.dataset(cell.labels), teacher if with_teacher else None)


def _epochs(cell: Cell, row: str) -> int:
    """Epochs of the row: where it cannot use all images, as many more as give equal steps."""
    if cell.labels != "few" or row not in NEEDS_LABELS:
        return cell.epochs
    steps, steps_of_few = (math.ceil(images / BATCH) for images in (STUDENT_IMAGES, FEW))
    return round(cell.epochs * steps / steps_of_few)


@dataclass(frozen=True)
class Results:
    """The folder of results: one file for each run."""

    folder: Path

    def path(self, cell: str, row: str, seed: int) -> Path:
        """The file of a run."""
        return self.folder / cell / f"{run_folder_name(row, seed)}.json"

    def top1(self, cell: str, row: str) -> dict[int, float]:
        """Test top-1 in percent by seed, of the runs that have a file."""
        paths = {seed: self.path(cell, row, seed) for seed in MORE_SEEDS}
        return {
            seed: float(json.loads(path.read_text())["top1"])
            for seed, path in paths.items()
            if path.exists()
        }

    def run(self, files: QualityFiles, cell: str, row: str, seed: int) -> None:
        """Run one student unless it has its file."""
        path = self.path(cell, row, seed)
        if path.exists():
            return
        workdir = files.folder / cell / run_folder_name(row, seed)
        # What an interrupted call left belongs to no file.
        shutil.rmtree(workdir, ignore_errors=True)
        top1 = run_top1(request(files, CELLS[cell], row, seed), workdir)
        report = json.loads((workdir / "report.json").read_text())
        content = {
            "cell": cell,
            "row": row,
            "seed": seed,
            "top1": top1,
            "best_epoch": report["epochs"]["best_epoch"],
            "weights": report["details"].get("weights"),
            "torch": report["versions"]["torch"],
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
        shutil.rmtree(workdir)
        sys.stderr.write(f"{cell}, {row}, seed {seed}: {top1:.2f}\n")


class Difference(NamedTuple):
    """Difference of two rows in test top-1, in points, paired by seed."""

    mean: float
    error: float | None
    """Standard error; None for a single seed."""

    @classmethod
    def of(cls, row: dict[int, float], base: dict[int, float]) -> "Difference | None":
        """The difference of ``row`` to ``base`` over the seeds of both; None without any."""
        gains = [row[seed] - base[seed] for seed in row if seed in base]
        if not gains:
            return None
        error = statistics.stdev(gains) / math.sqrt(len(gains)) if len(gains) > 1 else None
        return cls(statistics.fmean(gains), error)

    @property
    def is_worse(self) -> bool:
        """Whether the row is worse, beyond chance and by more than a point."""
        return (
            self.error is not None
            and self.mean < -WORSE_POINTS
            and self.mean < -WORSE_ERRORS * self.error
        )

    def __str__(self) -> str:
        error = "" if self.error is None else f" ± {self.error:.2f}"
        return f"{self.mean:+.2f}{error}{' (worse)' if self.is_worse else ''}"


def rows_of(cell: str, names: list[str]) -> list[str]:
    """Rows of a cell, the row of labels alone first; ``names`` selects some of them."""
    rows = [*ROWS, *(PUBLISHED_ROWS if cell == PUBLISHED_CELL else ())]
    selected = [row for row in rows if not names or row.removesuffix(PUBLISHED) in names]
    return [SUPERVISED, *(row for row in selected if row != SUPERVISED)]


def misses(results: Results, cell: str, rows: list[str]) -> Iterator[tuple[str, str]]:
    """Rows that are worse, each with the row to which it was compared."""
    for row in rows:
        bases = [SUPERVISED, row + PUBLISHED] if not row.endswith(PUBLISHED) else []
        for base in bases:
            difference = Difference.of(results.top1(cell, row), results.top1(cell, base))
            if difference is not None and difference.is_worse:
                yield row, base


def table(results: Results, cell: str, rows: list[str]) -> str:
    """Return a Markdown table of a cell."""
    lines = ["| method or scheme | seeds | test top-1 % | over supervised | over published |"]
    lines.append("|---|---|---|---|---|")
    for row in rows:
        top1 = results.top1(cell, row)
        if not top1:
            continue
        bases = ("" if row == SUPERVISED else SUPERVISED, row + PUBLISHED)
        differences = (Difference.of(top1, results.top1(cell, base)) for base in bases)
        cells = " | ".join(
            "" if difference is None else str(difference) for difference in differences
        )
        lines.append(f"| {row} | {len(top1)} | {statistics.fmean(top1.values()):.2f} | {cells} |")
    return "\n".join(lines)


def run_cell(
    files: QualityFiles, results: Results, cell: str, rows: list[str], seeds: list[int] | None
) -> None:
    """Run the missing runs of a cell, and more seeds of the rows that are worse."""
    for seed in CELLS[cell].seeds if seeds is None else seeds:
        for row in rows:
            results.run(files, cell, row, seed)
    if seeds is None:
        again = {row for pair in misses(results, cell, rows) for row in pair}
        for row in sorted(again):
            for seed in MORE_SEEDS:
                results.run(files, cell, row, seed)


def main() -> None:
    """Run what is missing and print a table of each cell."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four idx files")
    parser.add_argument("--out", type=Path, default=Path("bench-quality"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--methods", nargs="*", default=[], choices=list(ROWS), metavar="ROW")
    parser.add_argument("--seeds", nargs="*", type=int, choices=MORE_SEEDS)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    files, results = QualityFiles(args.out), Results(args.results)
    if not files.dataset("few").exists():
        prepare(args.data, files)
    print(f"Teacher {train_teacher(files):.2f} %.")
    for cell in args.cells:
        rows = rows_of(cell, args.methods)
        run_cell(files, results, cell, rows, args.seeds)
        print(f"\n## {cell}\n\n{table(results, cell, rows)}")
        for row, base in misses(results, cell, rows):
            print(f"\n{row} is worse than {base}.")


if __name__ == "__main__":
    main()
