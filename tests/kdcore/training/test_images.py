"""Images of every kind through a whole training: color for a gray network, and without labels."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdcore.data import dataset, statistics
from kdcore.data.types import SplitArrays, SubsetName
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization
from tests.kdcore.training.helpers import ARCHITECTURE, CLASSES, World, events_of, sha256, train

STUDENT = Path("artifacts/student.safetensors")
QUICK = {"epochs": 1}


def parts_of(world: World) -> dict[SubsetName, SplitArrays]:
    data = dataset.load_dataset(world.dataset)
    splits: tuple[Any, ...] = ("train", "val", "test")
    return {
        name: SplitArrays(data.images(name).numpy(), data.targets(name).numpy()) for name in splits
    }


def written(world: World, parts: dict[SubsetName, SplitArrays], path: Path) -> World:
    info = statistics.describe(CLASSES, parts, 0)
    dataset.write_dataset(path, parts, info)
    return replace(world, dataset=path, info=info)


def test_color_images_meet_a_gray_network_by_luminance(world: World, tmp_path: Path) -> None:
    weights = np.array([2, 1, 0]).reshape(1, 3, 1, 1)
    colored = {
        name: SplitArrays((each.images // 2 * weights).astype(np.uint8), each.targets)
        for name, each in parts_of(world).items()
    }
    other = written(world, colored, tmp_path / "colored.safetensors")
    student = {"architecture": ARCHITECTURE, "channels": "luminance"}
    training = {"epochs": 3, "augmentation": {"type": "none"}}
    done = train(other.request("supervised", 0, training, student=student), tmp_path / "run")
    report = events_of(done, "report")[-1]["report"]
    state = load_file(done / STUDENT)
    assert state["conv1.weight"].shape[1] == 1

    red, green, blue = 0.299, 0.587, 0.114
    mean, std = other.info.normalization.mean, other.info.normalization.std
    expected = [[red * v[0] + green * v[1] + blue * v[2]] for v in (mean, std)]
    assert [report["normalization"][name] for name in ("mean", "std")] == [
        pytest.approx(each) for each in expected
    ]
    network = build(ARCHITECTURE, num_classes=len(CLASSES), in_channels=1, input_size=8)
    network.load_state_dict(state)
    images = torch.from_numpy(colored["test"].images).double() / 255
    gray = (images * torch.tensor([red, green, blue]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    normalization = Normalization.model_validate(report["normalization"])
    with torch.no_grad():
        named = NormalizedModel(network, normalization).eval()(gray.float()).argmax(1)
    right = named == torch.from_numpy(colored["test"].targets)
    assert report["student"]["top1"] == pytest.approx(100 * float(right.double().mean()))
    assert report["student"]["top1"] > 30


def test_mixed_weighted_and_missing_labels_go_together(world: World, tmp_path: Path) -> None:
    """Of equal weights nothing shows, of others the loss: in training as in one batch."""
    parts = parts_of(world)
    none = SplitArrays(parts["train"].images[:96], np.full(96, -1))
    more = written(world, {**parts, "unlabeled": none}, tmp_path / "more.safetensors")
    found = {}
    weights = {"none": None, "ones": (1.0,) * 7, "some": (0.0, 9.0, *(1.0,) * 5)}
    for name, given in weights.items():
        training = {"epochs": 1, "augmentation": {"type": "mixup"}, "class_weights": given}
        request = more.request("kd", 1, {**training, "label_smoothing": 0.1}, label_weight=1.0)
        done = train(request, tmp_path / name)
        values = [e["values"] for e in events_of(done, "metrics")]
        found[name] = [v["train/loss/cross_entropy"] for v in values if "train/loss" in v]
        assert len(found[name]) == 10
    assert found["ones"] == found["none"]
    assert found["some"] != found["none"]
    assert sha256(tmp_path / "ones" / STUDENT) == sha256(tmp_path / "none" / STUDENT)
