"""Accuracy of recipes with few images, compared with the plain loop's recipe, on Fashion-MNIST.

    python -m bench.recipes --data DIR [--out DIR] [--seeds 3] [--only plain fast ...]

The teacher is a resnet20 with 272,000 weights, trained on 50,000 images of 32 pixels. The student
is a resnet20 with 0.3 of the width, 24,000 weights, trained on 20,000 of the images. ``plain`` is
the recipe of the research libraries: 40 epochs with fresh views. The other recipes see a fifth of
its images, except for two presets and the rows that name their epochs. Finished runs are not
repeated, so that the table can be completed later.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bench.fashion import (
    CLASSES,
    TrainedTeacher,
    build_request,
    read_images,
    read_labels,
    run_all,
    run_folder_name,
    run_top1,
    table_row,
)
from kdcore.data import dataset
from kdcore.data.ingest import statistics
from kdcore.data.types import SplitArrays, SubsetName

TEACHER = "cifar/resnet20"
STUDENT = {"derive": "teacher", "convolution": "grouped", "groups": 1, "width": 0.3}
TEACHER_IMAGES, IMAGES, VAL, TEACHER_EPOCHS = 50_000, 20_000, 5_000, 12
EPOCHS = 8
"""A fifth of the epochs of the plain recipe."""
LR: dict[str, Any] = {"type": "sgd", "lr": 0.1, "nesterov": True}
PLAIN: dict[str, Any] = {"epochs": 40, "schedule": {"type": "step"}}
FEW: dict[str, Any] = {"epochs": EPOCHS}
VIEWS = (1, 4, 16, "fresh")
FLIPS: dict[str, Any] = {"augmentation": {"type": "crop_flip", "padding": 0}}
CROPS: dict[str, Any] = {"type": "crop_flip", "padding": 2}
SHARP: dict[str, Any] = {"method": {"type": "kd", "temperature": 2.0}}
ROWS: dict[str, dict[str, Any]] = {
    "plain": {"training": PLAIN},
    "plain, an epoch for five": {"training": PLAIN | FEW},
    "cosine": {"training": FEW},
    "cosine, lr 0.1": {"training": FEW | {"optimizer": LR}},
    "cosine, lr 0.2, batch 128": {
        "training": FEW | {"optimizer": LR | {"lr": 0.2}, "batch_size": 128}
    },
    "cosine, lr 0.1, decay 1e-4": {"training": FEW | {"optimizer": LR | {"weight_decay": 1e-4}}},
    "cosine, adamw": {"training": FEW | {"optimizer": {"type": "adamw", "lr": 4e-3}}},
    "cosine, lr 0.1, 4 views": {"training": FEW | {"optimizer": LR, "views": 4}},
    "cosine, lr 0.1, flips only": {"training": FEW | {"optimizer": LR} | FLIPS},
    "cosine, lr 0.1, teacher only": {"training": FEW | {"optimizer": LR}, "label_weight": 0.0},
    "cosine, lr 0.1, T 2": {
        "training": FEW | {"optimizer": LR},
        **SHARP,
    },
    "cosine, lr 0.1, T 2, flips only": {"training": FEW | {"optimizer": LR} | FLIPS, **SHARP},
    "cosine, lr 0.1, T 2, flips only, batch 32": {
        "training": FEW | {"optimizer": LR, "batch_size": 32} | FLIPS,
        **SHARP,
    },
    "cosine, lr 0.1, T 2, crops of 2": {
        "training": FEW | {"optimizer": LR} | {"augmentation": CROPS},
        **SHARP,
    },
    "cosine, lr 0.1, T 2, flips only, teacher only": {
        "training": FEW | {"optimizer": LR} | FLIPS,
        **SHARP,
        "label_weight": 0.0,
    },
    "cosine, lr 0.1, T 2, flips only, decay 1e-4": {
        "training": FEW | {"optimizer": LR | {"weight_decay": 1e-4}} | FLIPS,
        **SHARP,
    },
    "cosine, lr 0.1, smoothed": {"training": FEW | {"optimizer": LR, "label_smoothing": 0.1}},
}

ROWS |= {
    f"preset {name}": {"preset": name, "method": None} for name in ("fast", "balanced", "paper")
}
ROWS |= {
    "fast, 16 epochs": {"preset": "fast", "method": None, "training": {"epochs": 2 * EPOCHS}},
    "fast, 4 views": {"preset": "fast", "method": None, "training": {"views": 4}},
    "balanced, 16 views": {"preset": "balanced", "method": None, "training": {"views": 16}},
    "fast, eight-bit teacher": {
        "preset": "fast",
        "method": None,
        "training": {"teacher_precision": "int8"},
    },
    "fast, with vid": {
        "preset": "fast",
        "method": [{"type": "logit_matching"}, {"type": "vid"}],
        "label_weight": 0.0,
    },
}
ROWS |= {
    f"40 epochs, views {count}": {"training": {"epochs": 40, "views": count}} for count in VIEWS
}


def prepare(data: Path, path: Path, count: int) -> None:
    """Write a data set with the first ``count`` images, in the same order in every call."""
    images, labels = read_images(data, "train"), read_labels(data, "train")
    order = np.random.default_rng(0).permutation(len(images))[: TEACHER_IMAGES + VAL]
    images, labels = images[order], labels[order]
    splits: dict[SubsetName, SplitArrays] = {
        "train": SplitArrays(images[:count], labels[:count]),
        "val": SplitArrays(images[TEACHER_IMAGES:], labels[TEACHER_IMAGES:]),
        "test": SplitArrays(read_images(data, "t10k"), read_labels(data, "t10k")),
    }
    dataset.write_dataset(path, splits, statistics.describe(CLASSES, splits, 0))


def main() -> None:
    """Run the missing rows and print the table."""
    args = _parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    teacher_data, data = (
        args.out / "teacher.safetensors",
        args.out / f"student-{args.images}.safetensors",
    )
    for path, count in ((teacher_data, TEACHER_IMAGES), (data, args.images)):
        if not path.exists():
            prepare(args.data, path, count)
    teacher_job = {
        "student": {"architecture": TEACHER},
        "method": "supervised",
        "training": {"epochs": TEACHER_EPOCHS, "batch_size": 128, "optimizer": LR},
    }
    teacher_top1 = run_top1(
        build_request(teacher_job, teacher_data, None, args.device), args.out / "teacher"
    )
    weights = args.out / "teacher" / "artifacts" / "student.safetensors"
    teacher = TrainedTeacher(TEACHER, weights, teacher_data)
    runs = {
        (name, seed): (
            build_request(
                {"student": STUDENT, "method": "kd", **ROWS[name], "seed": seed},
                data,
                teacher,
                args.device,
            ),
            args.out / f"{args.images}-{run_folder_name(name, seed)}",
        )
        for name in args.only
        for seed in range(args.seeds)
    }
    results = run_all(runs, args.processes)
    print(f"Teacher {teacher_top1:.2f} %. Test top-1 in percent, {args.seeds} seeds.\n")
    print("| recipe | top-1 | over plain |\n|---|---|---|")
    for name, values in results.items():
        print(table_row(name, values, results.get("plain", [])))


def _parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.recipes", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four idx files")
    parser.add_argument("--out", type=Path, default=Path("bench-recipes"))
    parser.add_argument("--images", type=int, default=IMAGES, help="images of the students")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--device", default="auto")
    default_rows = [name for name in ROWS if name != "preset paper"]  # which takes 240 epochs
    parser.add_argument("--only", nargs="*", default=default_rows)
    return parser.parse_args()


if __name__ == "__main__":
    main()
