"""A small world to train in: easy synthetic images and a quick recipe."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from kdcore.data import dataset as store
from kdcore.data import statistics
from kdcore.data.types import SplitArrays, SubsetName
from kdcore.protocol.requests import DatasetFile, ModelFile, RunRequest, TeacherFile
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import DatasetInfo
from kdcore.schema.job import ResolvedJob
from kdcore.schema.methods import as_methods
from kdcore.training.run import run_job

ARCHITECTURE = "cifar/resnet8"
CLASSES = tuple("abcdefg")
EPOCHS = 3


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def events_of(workdir: Path, kind: str) -> list[dict[str, Any]]:
    lines = (workdir / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == kind]


@dataclass(frozen=True)
class World:
    """One data set and, once trained, one teacher."""

    dataset: Path
    info: DatasetInfo
    teacher: Path | None = None

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
        self, method: Any = "kd", teachers: int = 1, training: Any = None, **job: Any
    ) -> RunRequest:
        recipe = {
            "epochs": EPOCHS,
            "batch_size": 32,
            "augmentation": {"type": "crop_flip", "padding": 1, "flip": True},
            **(training or {}),
        }
        fields = {
            "name": "a job",
            "student": {"architecture": ARCHITECTURE},
            "dataset": "ds_1",
            "teachers": [{"model": "mdl_1"}] * teachers,
            "method": as_methods(method) if isinstance(method, str) else method,
            "label_weight": 0.1 if method == "kd" else 1.0,
            "training": recipe,
            "evaluation": {"baseline": False},
            "seed": 7,
            **job,
        }
        taught = [self.model(self.teacher, TeacherFile, weight=1.0)] if teachers else []
        return RunRequest(
            job=ResolvedJob.model_validate(fields),
            dataset=DatasetFile(path=str(self.dataset), sha256=sha256(self.dataset)),
            teachers=taught * teachers,
            device="cpu",
            threads=1,
        )


def networks_of(workdir: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The weights of every network that a finished run has trained: peers, assistants, all seeds'
    students, baselines."""
    newest = max((workdir / "checkpoints").glob("step-*.pt"))
    results = torch.load(newest, weights_only=True)["results"]
    return {f"{each['name']} of seed {each['seed_index']}": each["weights"] for each in results}


def same_networks(ours: Path, theirs: Path) -> bool:
    """Whether two runs trained the same networks to the same bits."""
    a, b = networks_of(ours), networks_of(theirs)
    return a.keys() == b.keys() and all(
        torch.equal(tensor, b[name][key]) for name in a for key, tensor in a[name].items()
    )


class StopAfter(CancellationToken):
    """Asks for a stop at the n-th look at it."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def requested(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def train(request: RunRequest, workdir: Path, stop: CancellationToken | None = None) -> Path:
    workdir.mkdir(parents=True, exist_ok=True)
    events = EventWriter(workdir / "events.jsonl", workdir)
    try:
        run_job(request, workdir, events, stop or CancellationToken())
    finally:
        events.close()
    return workdir


def arrays(
    generator: np.random.Generator, templates: npt.NDArray[np.float64], count: int
) -> SplitArrays:
    targets = generator.permutation(np.arange(count) % len(templates)).astype(np.int64)
    noise = generator.normal(0, 55, (count, 1, 8, 8))
    return SplitArrays((templates[targets] + noise).clip(0, 255).astype(np.uint8), targets)


def make_world(folder: Path) -> World:
    """Easy images of 8 pixels in seven classes, and a teacher that knows them."""
    generator = np.random.default_rng(3)
    templates = generator.uniform(0, 255, (len(CLASSES), 1, 8, 8))
    sizes: dict[SubsetName, int] = {"train": 225, "val": 70, "test": 91}
    splits = {name: arrays(generator, templates, size) for name, size in sizes.items()}
    info = statistics.describe(CLASSES, splits, 0)
    store.write_dataset(folder / "dataset.safetensors", splits, info)
    found = World(folder / "dataset.safetensors", info)
    workdir = train(found.request("supervised", 0, {"epochs": 12}), folder / "teacher")
    return replace(found, teacher=workdir / "artifacts" / "student.safetensors")
