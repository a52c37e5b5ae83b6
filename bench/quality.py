"""Quality of every method and scheme, compared with a student trained on labels alone.

    python -m bench.quality --data DIR [--out DIR] [--seeds 3] [--only kd dkd ...]

The setting is the one that the service is for: a large teacher trained on clean labels, and few
images with noisy labels for the student. Fashion-MNIST at 16 pixels; teacher resnet20 on 20,000
clean images; students resnet8 on 2,500 images, of which 40 % have a label drawn at random.
Validation and test labels are clean. All students train for the same number of epochs on the same
images; only the method or the scheme differs. Finished runs are not repeated, so that the table can
be completed later.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.fashion import (
    CLASSES,
    TrainedTeacher,
    build_request,
    halve,
    read_images,
    read_labels,
    run_all,
    run_folder_name,
    run_top1,
    table_row,
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
WITHOUT_TEACHER = ("supervised", "mutual", "supervised, clean labels")


@dataclass(frozen=True)
class QualityFiles:
    """The files that all runs share."""

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


def prepare(data: Path, files: QualityFiles) -> None:
    """Write the three data sets, with the same images and noise in every call."""
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
    for path, train in (
        (files.clean, SplitArrays(images[:teacher_end], labels[:teacher_end])),
        (files.noisy, SplitArrays(student_images, noisy)),
        (files.control, SplitArrays(student_images, true)),
    ):
        splits = {"train": train, "val": val, "test": test}
        store.write_dataset(path, splits, statistics.describe(CLASSES, splits, 0))


def request(files: QualityFiles, name: str, job: dict[str, Any], seed: int) -> RunRequest:
    """Return the run of one student of the table."""
    dataset = files.control if "clean" in name else files.noisy
    return _request(files, dataset, job | {"seed": seed}, with_teacher=name not in WITHOUT_TEACHER)


def _request(
    files: QualityFiles, dataset: Path, job: dict[str, Any], *, with_teacher: bool
) -> RunRequest:
    defaults = {
        "student": {"architecture": STUDENT},
        "training": {"epochs": EPOCHS, "batch_size": 64, "optimizer": {"type": "sgd"}},
    }
    teacher = TrainedTeacher(TEACHER, files.teacher, files.clean) if with_teacher else None
    return build_request(defaults | job, dataset, teacher)


def jobs(only: list[str]) -> dict[str, dict[str, Any]]:
    """Return the rows of the table: the settings that each changes in the job."""
    rows: dict[str, dict[str, Any]] = {
        "supervised": {"method": "supervised"},
        "supervised, clean labels": {"method": "supervised"},
        **{name: {"method": name} for name in METHODS if name != "supervised"},
        "kd, soft labels only": {"method": "kd", "label_weight": 0},
        "kd, standardized logits": {
            "method": {"type": "kd", "temperature": 2.0, "logit_standardization": True}
        },
        # The published weights are for 240 epochs with 100 classes.
        **{
            f"{name}, a tenth of its weight": {"method": {"type": name, "weight": weight / 10}}
            for name, weight in (("similarity", 3000), ("pkt", 30000), ("attention", 1000))
        },
        "batch_logits beside kd": {"method": [{"type": "kd"}, {"type": "batch_logits"}]},
        **SCHEMES,
    }
    return {name: row for name, row in rows.items() if not only or name in only}


def main() -> None:
    """Run the missing rows and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four idx files")
    parser.add_argument("--out", type=Path, default=Path("bench-quality"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    files = QualityFiles(args.out)
    if not files.control.exists():
        prepare(args.data, files)
    teacher = {
        "student": {"architecture": TEACHER},
        "method": "supervised",
        "training": {"epochs": TEACHER_EPOCHS, "batch_size": 128},
    }
    teacher_top1 = run_top1(
        _request(files, files.clean, teacher, with_teacher=False), args.out / "teacher"
    )
    rows = jobs(args.only)
    runs = {
        (name, seed): (request(files, name, row, seed), args.out / run_folder_name(name, seed))
        for seed in range(args.seeds)
        for name, row in rows.items()
    }
    results = run_all(runs, args.processes)
    print(f"Teacher {teacher_top1:.2f} %. Test top-1 in percent, {args.seeds} seeds.\n")
    print("| method or scheme | top-1 | over supervised |\n|---|---|---|")
    for name, values in results.items():
        print(table_row(name, values, results.get("supervised", [])))


if __name__ == "__main__":
    main()
