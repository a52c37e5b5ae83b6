"""Does it teach? Every method and scheme against a student that only sees the labels.

    python -m bench.quality --data DIR [--out DIR] [--seeds 3] [--only kd dkd ...]

The setting is the one that the service is for: a big model that learned from clean labels, and few
images with noisy ones for the student. Fashion-MNIST at 16 pixels; teacher resnet20 on 20,000 clean
images; students resnet8 on 2,500 images of which 40 % have a label drawn at random. Validation and
test labels are clean. Everything is taught for the same number of epochs on the same images; only
the method or the scheme changes. A finished run is not run again: the table can be completed later.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.fashion import (
    CLASSES,
    Taught,
    all_of,
    folder_of,
    halve,
    images_of,
    labels_of,
    request_of,
    row_of,
    top1,
)
from kdcore.data import dataset as store
from kdcore.data.ingest import statistics
from kdcore.data.types import SplitArrays
from kdcore.protocol.requests import RunRequest
from kdcore.schema.methods import METHODS

TEACHER, STUDENT, ASSISTANT = "cifar/resnet20", "cifar/resnet8", "cifar/resnet14"
SIDE, TEACHER_IMAGES, STUDENT_IMAGES, VAL, TEST = 16, 20_000, 2_500, 1_000, 5_000
NOISE = 0.4
EPOCHS, TEACHER_EPOCHS = 12, 6
SCHEMES: dict[str, dict[str, Any]] = {
    "mutual": {"scheme": {"type": "mutual"}},
    "mutual, with the teacher": {"scheme": {"type": "mutual"}, "method": "kd"},
    "born_again": {"scheme": {"type": "born_again", "generations": 2}, "method": "kd"},
    "teacher_assistant": {
        "scheme": {"type": "teacher_assistant", "assistants": [ASSISTANT]},
        "method": "kd",
    },
    "label_refinery": {"scheme": {"type": "label_refinery", "max_rounds": 2}},
}
ALONE = ("supervised", "mutual", "supervised, clean labels")
"""What has no teacher."""


@dataclass(frozen=True)
class QualityFiles:
    """The files that every run shares."""

    folder: Path

    @property
    def clean(self) -> Path:
        """The teacher's data."""
        return self.folder / "clean.safetensors"

    @property
    def noisy(self) -> Path:
        """The students' data."""
        return self.folder / "noisy.safetensors"

    @property
    def control(self) -> Path:
        """The students' images with their true labels."""
        return self.folder / "control.safetensors"

    @property
    def teacher(self) -> Path:
        """The trained teacher's weights."""
        return self.folder / "teacher" / "artifacts" / "student.safetensors"


def prepare(data: Path, world: QualityFiles) -> None:
    """Write the three data sets; the same images and the same noise every time."""
    images, labels = halve(images_of(data, "train")), labels_of(data, "train")
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    first, second = TEACHER_IMAGES, TEACHER_IMAGES + STUDENT_IMAGES
    val = SplitArrays(images[second : second + VAL], labels[second : second + VAL])
    test = SplitArrays(halve(images_of(data, "t10k"))[:TEST], labels_of(data, "t10k")[:TEST])
    student_images, true = images[first:second], labels[first:second]
    generator = np.random.default_rng(1)
    wrong = generator.random(STUDENT_IMAGES) < NOISE
    noisy = np.where(wrong, generator.integers(0, len(CLASSES), STUDENT_IMAGES), true)
    for path, train in (
        (world.clean, SplitArrays(images[:first], labels[:first])),
        (world.noisy, SplitArrays(student_images, noisy)),
        (world.control, SplitArrays(student_images, true)),
    ):
        splits = {"train": train, "val": val, "test": test}
        store.write_dataset(path, splits, statistics.describe(CLASSES, splits, 0))


def request(world: QualityFiles, name: str, job: dict[str, Any], seed: int) -> RunRequest:
    """One student of the table."""
    dataset = world.control if "clean" in name else world.noisy
    return _request(world, dataset, job | {"seed": seed}, taught=name not in ALONE)


def _request(
    world: QualityFiles, dataset: Path, job: dict[str, Any], *, taught: bool
) -> RunRequest:
    defaults = {
        "student": {"architecture": STUDENT},
        "training": {"epochs": EPOCHS, "batch_size": 64, "optimizer": {"type": "sgd"}},
    }
    teacher = Taught(TEACHER, world.teacher, world.clean) if taught else None
    return request_of(defaults | job, dataset, teacher)


def jobs(only: list[str]) -> dict[str, dict[str, Any]]:
    """The rows of the table: what each changes in the job."""
    rows: dict[str, dict[str, Any]] = {
        "supervised": {"method": "supervised"},
        "supervised, clean labels": {"method": "supervised"},
        **{name: {"method": name} for name in METHODS if name != "supervised"},
        "kd, soft labels only": {"method": "kd", "label_weight": 0},
        "kd, standardized logits": {
            "method": {"type": "kd", "temperature": 2.0, "logit_standardization": True}
        },
        # Their published weights are for 240 epochs of 100 classes: here is what a tenth does.
        **{
            f"{name}, a tenth of its weight": {"method": {"type": name, "weight": weight / 10}}
            for name, weight in (("similarity", 3000), ("pkt", 30000), ("attention", 1000))
        },
        "batch_logits beside kd": {"method": [{"type": "kd"}, {"type": "batch_logits"}]},
        **SCHEMES,
    }
    return {name: row for name, row in rows.items() if not only or name in only}


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="with the four idx files")
    parser.add_argument("--out", type=Path, default=Path("bench-quality"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    world = QualityFiles(args.out)
    if not world.control.exists():
        prepare(args.data, world)
    teacher = {
        "student": {"architecture": TEACHER},
        "method": "supervised",
        "training": {"epochs": TEACHER_EPOCHS, "batch_size": 128},
    }
    taught = top1(_request(world, world.clean, teacher, taught=False), args.out / "teacher")
    rows = jobs(args.only)
    runs = {
        (name, seed): (request(world, name, row, seed), args.out / folder_of(name, seed))
        for seed in range(args.seeds)
        for name, row in rows.items()
    }
    results = all_of(runs, args.processes)
    print(f"Teacher {taught:.2f} %. Test top-1 in percent, {args.seeds} seeds.\n")
    print("| method or scheme | top-1 | over supervised |\n|---|---|---|")
    for name, values in results.items():
        print(row_of(name, values, results.get("supervised", [])))


if __name__ == "__main__":
    main()
