"""Images of every kind train a student: other channels, missing labels, mixed labels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdcore.data.types import SplitArrays
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization
from tests.kdcore.training.helpers import (
    ARCHITECTURE,
    CLASSES,
    STUDENT,
    World,
    events_of,
    metric_values,
    read_splits,
    report_of,
    sha256,
    train,
    with_dataset,
    write_world,
)

ONE_EPOCH = {"epochs": 1}
NUM_UNLABELED = 96


def add_unlabeled(world: World, path: Path) -> World:
    """The same world with images that have no label."""
    splits = read_splits(world)
    images = splits["train"].images[:NUM_UNLABELED]
    unlabeled = SplitArrays(images, np.full(NUM_UNLABELED, -1))
    return write_world(world, {**splits, "unlabeled": unlabeled}, path)


def test_gray_images_are_repeated_for_a_color_network(world: World, tmp_path: Path) -> None:
    student = {"architecture": ARCHITECTURE, "channels": "repeat"}
    workdir = train(world.request("kd", 1, ONE_EPOCH, student=student), tmp_path)
    assert load_file(workdir / STUDENT)["conv1.weight"].shape[1] == 3
    mean = report_of(workdir)["normalization"]["mean"]
    assert mean == [world.info.normalization.mean[0]] * 3


def test_color_images_are_reduced_to_luminance_for_a_gray_network(
    world: World, tmp_path: Path
) -> None:
    weights = np.array([2, 1, 0]).reshape(1, 3, 1, 1)
    color_splits = {
        name: SplitArrays((split.images // 2 * weights).astype(np.uint8), split.targets)
        for name, split in read_splits(world).items()
    }
    color_world = write_world(world, color_splits, tmp_path / "color.safetensors")
    student = {"architecture": ARCHITECTURE, "channels": "luminance"}
    training = {"epochs": 3, "augmentation": {"type": "none"}}
    workdir = train(
        color_world.request("supervised", 0, training, student=student), tmp_path / "run"
    )
    report = report_of(workdir)
    state = load_file(workdir / STUDENT)
    assert state["conv1.weight"].shape[1] == 1

    red, green, blue = 0.299, 0.587, 0.114
    mean, std = color_world.info.normalization.mean, color_world.info.normalization.std
    expected = [[red * v[0] + green * v[1] + blue * v[2]] for v in (mean, std)]
    normalization = report["normalization"]
    assert [normalization["mean"], normalization["std"]] == [
        pytest.approx(values) for values in expected
    ]
    network = build(ARCHITECTURE, num_classes=len(CLASSES), in_channels=1, input_size=8)
    network.load_state_dict(state)
    images = torch.from_numpy(color_splits["test"].images).double() / 255
    gray = (images * torch.tensor([red, green, blue]).view(1, 3, 1, 1)).sum(1, keepdim=True)
    model = NormalizedModel(network, Normalization.model_validate(normalization)).eval()
    with torch.no_grad():
        predictions = model(gray.float()).argmax(1)
    correct = predictions == torch.from_numpy(color_splits["test"].targets)
    assert report["student"]["top1"] == pytest.approx(100 * float(correct.double().mean()))
    assert report["student"]["top1"] > 30


def test_unlabeled_images_train_students_whose_methods_need_no_labels(
    world: World, tmp_path: Path
) -> None:
    unlabeled_world = add_unlabeled(world, tmp_path / "unlabeled.safetensors")
    last_steps = {}
    for method in ("kd", "dkd"):
        request = world.request(method, 1, ONE_EPOCH, evaluation={"baseline": True})
        request = with_dataset(request, unlabeled_world.dataset)
        workdir = train(request, tmp_path / method)
        for prefix in ("", "baseline/"):
            last_steps[method, prefix] = max(
                event["step"]
                for event in events_of(workdir, "metrics")
                if f"{prefix}train/loss" in event["values"]
            )
    # 225 images in batches of 32, or 321 with the unlabeled ones; a last batch of one is left out.
    # The baseline trains without unlabeled images, for as many steps as the student.
    assert last_steps == {
        ("kd", ""): 10,
        ("kd", "baseline/"): 10,
        ("dkd", ""): 7,
        ("dkd", "baseline/"): 7,
    }


def test_mixed_weighted_and_missing_labels_combine(world: World, tmp_path: Path) -> None:
    unlabeled_world = add_unlabeled(world, tmp_path / "unlabeled.safetensors")
    losses = {}
    weights = {"none": None, "ones": (1.0,) * 7, "some": (0.0, 9.0, *(1.0,) * 5)}
    for name, class_weights in weights.items():
        training = {
            "epochs": 1,
            "augmentation": {"type": "mixup"},
            "class_weights": class_weights,
            "label_smoothing": 0.1,
        }
        request = unlabeled_world.request("kd", 1, training, label_weight=1.0)
        losses[name] = metric_values(train(request, tmp_path / name), "train/loss/cross_entropy")
        assert len(losses[name]) == 10
    assert losses["ones"] == losses["none"]
    assert losses["some"] != losses["none"]
    assert sha256(tmp_path / "ones" / STUDENT) == sha256(tmp_path / "none" / STUDENT)
