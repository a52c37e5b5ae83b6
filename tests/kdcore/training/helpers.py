"""A world to train in: easy synthetic images, a teacher, and requests that take a second."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kdcore.data import dataset
from kdcore.data.ingest import statistics
from kdcore.data.types import SplitArrays, SubsetName
from kdcore.protocol.requests import (
    CheckpointFile,
    DatasetFile,
    ModelFile,
    RunRequest,
    TeacherFile,
)
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import as_methods
from kdcore.schemes import planner
from kdcore.schemes.base import Phase
from kdcore.training.run import run_job

ARCHITECTURE = "cifar/resnet8"
CLASSES = tuple("abcdefg")
EPOCHS = 3
NUM_TRAIN_IMAGES = 225
STEPS_PER_EPOCH = 7
"""Batches of 32; a last batch with a single image is left out."""
STUDENT = Path("artifacts/student.safetensors")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def events_of(workdir: Path, kind: str) -> list[dict[str, Any]]:
    lines = (workdir / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == kind]


def report_of(workdir: Path) -> dict[str, Any]:
    return dict(events_of(workdir, "report")[-1]["report"])


def metric_names(workdir: Path) -> set[str]:
    return {name for event in events_of(workdir, "metrics") for name in event["values"]}


def metric_values(workdir: Path, name: str) -> list[float]:
    """All values of one metric, in order."""
    values = (event["values"] for event in events_of(workdir, "metrics"))
    return [event_values[name] for event_values in values if name in event_values]


def log_text(workdir: Path) -> str:
    return "\n".join(event["message"] for event in events_of(workdir, "log"))


@dataclass(frozen=True)
class World:
    """One data set and, once trained, one teacher."""

    dataset: Path
    info: DatasetInfo
    teacher_path: Path | None = None

    @property
    def teacher(self) -> Path:
        if self.teacher_path is None:
            raise ValueError("this world has no teacher yet")
        return self.teacher_path

    def model(self, path: Path, kind: type[ModelFile] = ModelFile, **fields: Any) -> ModelFile:
        return kind(
            path=str(path),
            sha256=sha256(path),
            architecture=ARCHITECTURE,
            num_classes=len(CLASSES),
            in_channels=1,
            input_size=8,
            normalization=self.info.normalization,
            **fields,
        )

    def request(
        self, method: Any = "kd", num_teachers: int = 1, training: Any = None, **job: Any
    ) -> RunRequest:
        fields = {
            "name": "a job",
            "student": {"architecture": ARCHITECTURE},
            "dataset": "ds_1",
            "teachers": [{"model": "mdl_1"}] * num_teachers,
            "method": as_methods(method) if isinstance(method, str) else method,
            "label_weight": 0.1 if method == "kd" else 1.0,
            "training": {
                "epochs": EPOCHS,
                "batch_size": 32,
                "augmentation": {"type": "crop_flip", "padding": 1, "flip": True},
                **(training or {}),
            },
            "evaluation": {"baseline": False},
            "seed": 7,
            **job,
        }
        teachers = [self.model(self.teacher, TeacherFile, weight=1.0)] if num_teachers else []
        return RunRequest(
            job=ResolvedJob.model_validate(fields),
            dataset=DatasetFile(path=str(self.dataset), sha256=sha256(self.dataset)),
            teachers=teachers * num_teachers,
            device="cpu",
            threads=1,
            latency_rounds=1,  # measuring well takes seconds
        )


def first_phase(request: RunRequest) -> Phase:
    """The first phase of the request's job."""
    return planner.first_phases(request.job)[0]


def with_fields(request: RunRequest, **fields: Any) -> RunRequest:
    """The request with other values of some fields."""
    return request.model_copy(update=fields)


def with_job(request: RunRequest, **fields: Any) -> RunRequest:
    """The request with other values of some fields of its job."""
    return with_fields(request, job=request.job.model_copy(update=fields))


def with_teacher(request: RunRequest, **fields: Any) -> RunRequest:
    """The request with other values of some fields of its only teacher."""
    (teacher,) = request.teachers
    return with_fields(request, teachers=(teacher.model_copy(update=fields),))


def with_dataset(request: RunRequest, path: Path) -> RunRequest:
    return with_fields(request, dataset=DatasetFile(path=str(path), sha256=sha256(path)))


def newest_checkpoint(workdir: Path) -> CheckpointFile:
    path = max((workdir / "checkpoints").glob("step-*.pt"))
    return CheckpointFile(path=str(path), sha256=sha256(path))


def trained_weights(workdir: Path) -> dict[str, Mapping[str, torch.Tensor]]:
    """The weights of every network of a complete run: students, peers, assistants, baselines."""
    results = torch.load(newest_checkpoint(workdir).path, weights_only=True)["results"]
    return {
        f"{result['name']} of seed {result['seed_index']}": result["weights"] for result in results
    }


def assert_same_networks(workdir: Path, other: Path, message: str = "") -> None:
    """Assert that two runs trained the same networks, bit by bit."""
    weights, other_weights = trained_weights(workdir), trained_weights(other)
    assert weights.keys() == other_weights.keys(), message
    for name, state in weights.items():
        for key, tensor in state.items():
            assert torch.equal(tensor, other_weights[name][key]), f"{name}: {key} {message}"


class CancelAfter(CancellationToken):
    """Requests cancellation at the n-th check."""

    def __init__(self, num_checks: int) -> None:
        super().__init__()
        self.num_checks = num_checks

    @property
    def requested(self) -> bool:
        self.num_checks -= 1
        return self.num_checks < 0


def train(
    request: RunRequest, workdir: Path, cancellation: CancellationToken | None = None
) -> Path:
    """Run a request in ``workdir`` and return the folder."""
    workdir.mkdir(parents=True, exist_ok=True)
    events = EventWriter(workdir / "events.jsonl", workdir)
    try:
        run_job(request, workdir, events, cancellation or CancellationToken())
    finally:
        events.close()
    return workdir


def draw_split(
    generator: np.random.Generator, templates: npt.NDArray[np.float64], count: int
) -> SplitArrays:
    """Noisy copies of the templates, one template for each class."""
    targets = generator.permutation(np.arange(count) % len(templates)).astype(np.int64)
    noise = generator.normal(0, 55, (count, 1, 8, 8))
    return SplitArrays((templates[targets] + noise).clip(0, 255).astype(np.uint8), targets)


def read_splits(world: World) -> dict[SubsetName, SplitArrays]:
    data = dataset.load_dataset(world.dataset)
    names: tuple[SubsetName, ...] = ("train", "val", "test")
    return {
        name: SplitArrays(data.images(name).numpy(), data.targets(name).numpy()) for name in names
    }


def write_world(world: World, splits: dict[SubsetName, SplitArrays], path: Path) -> World:
    """The same world with another data set, written to ``path``."""
    info = statistics.describe(CLASSES, splits, 0)
    dataset.write_dataset(path, splits, info)
    return replace(world, dataset=path, info=info)


def make_world(folder: Path) -> World:
    """Easy images of 8 pixels in seven classes, and a teacher that classifies them well."""
    generator = np.random.default_rng(3)
    templates = generator.uniform(0, 255, (len(CLASSES), 1, 8, 8))
    sizes: dict[SubsetName, int] = {"train": NUM_TRAIN_IMAGES, "val": 70, "test": 91}
    splits = {name: draw_split(generator, templates, size) for name, size in sizes.items()}
    info = statistics.describe(CLASSES, splits, 0)
    dataset.write_dataset(folder / "dataset.safetensors", splits, info)
    world = World(folder / "dataset.safetensors", info)
    workdir = train(world.request("supervised", 0, {"epochs": 12}), folder / "teacher")
    return replace(world, teacher_path=workdir / STUDENT)
