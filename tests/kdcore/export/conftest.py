"""A small network that was trained on the digits, for the tests of its exports."""

from dataclasses import dataclass

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional

from kdcore.evaluation.latency import Speed
from kdcore.evaluation.report_builder import Evaluator
from kdcore.export.exportable import ExportableNetwork, calibration_images, onnx_metadata
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization
from kdcore.schema.report import Latency

NORMALIZATION = Normalization(mean=(0.3,), std=(0.37,))
CLASSES = tuple("0123456789")
SPEED = Speed(Latency(p50=1.0, p95=2.0), 30.0)


def never_cancelled() -> None:
    pass


@dataclass(frozen=True)
class Digits:
    train: Tensor  # (1200, 1, 8, 8) uint8
    train_target: Tensor
    evaluator: Evaluator


@pytest.fixture(scope="session")
def digits() -> Digits:
    data = load_digits()
    images = torch.from_numpy(data.images * (255 / 16)).round().to(torch.uint8)[:, None]
    target = torch.from_numpy(data.target).long()
    evaluator = Evaluator(
        images[1200:1500],
        target[1200:1500],
        CLASSES,
        torch.device("cpu"),
        never_cancelled,
        latency_rounds=1,  # measuring well takes seconds
    )
    return Digits(images[:1200], target[:1200], evaluator)


def train_student(digits: Digits, seed: int, steps: int = 60) -> NormalizedModel:
    torch.manual_seed(seed)
    network = build("cifar/resnet8", num_classes=10, in_channels=1, input_size=8)
    student = NormalizedModel(network, NORMALIZATION).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.05, momentum=0.9)
    for _ in range(steps):
        rows = torch.randint(0, 1200, (32,))
        loss = functional.cross_entropy(student(digits.train[rows]), digits.train_target[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    student.requires_grad_(requires_grad=False)
    return student.eval()


def make_exportable(
    digits: Digits, network: NormalizedModel, stem: str = "student"
) -> ExportableNetwork:
    return ExportableNetwork(
        network=network,
        logits=digits.evaluator.logits(network),
        speed=SPEED,
        calibration=calibration_images(digits.train, 0),
        metadata=onnx_metadata("cifar/resnet8", CLASSES, NORMALIZATION, 8),
        stem=stem,
    )


@pytest.fixture(scope="session")
def student(digits: Digits) -> NormalizedModel:
    return train_student(digits, 0)
