"""Which networks take bfloat16 is told by a table."""

import pytest
import torch

from kdcore.models import build
from kdcore.spec.training import Training
from kdcore.training import precision
from kdcore.training.device import as_before, prepare
from kdcore.training.precision import Sketch

PROCESSOR = torch.device("cpu")


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda: True)


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("cifar/resnet8x4", 32, "bfloat16"),
        ("cifar/resnet20", 32, "bfloat16"),
        ("cifar/resnet8x4", 8, "float32"),  # too little to multiply
        ("cifar/resnet8", 32, "float32"),
        ("cifar/MobileNetV2", 32, "float32"),  # depthwise convolutions take twice as long
        ("cifar/resnet32x4+grouped-8+width-0.5", 32, "float32"),
        ("torchvision/resnet18", 64, "bfloat16"),
        ("torchvision/mobilenet_v3_small", 224, "float32"),
    ],
)
def test_the_table(name: str, side: int, expected: str) -> None:
    sketch = Sketch(name, num_classes=100, in_channels=3, side=side)
    assert precision.of_student(PROCESSOR, sketch) == expected
    network = build(name, num_classes=100, in_channels=3, input_size=side)
    assert precision.of_teacher(PROCESSOR, network, 3, side) == expected


def test_a_processor_that_cannot_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_multiplies_bfloat16", lambda: False)
    sketch = Sketch("cifar/resnet8x4", num_classes=100, in_channels=3, side=32)
    assert precision.of_student(PROCESSOR, sketch) == "float32"


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(("short", "expected"), [(0.5, "bfloat16"), (0.95, "float32")])
def test_without_strict_determinism_steps_are_timed(
    monkeypatch: pytest.MonkeyPatch, short: float, expected: str
) -> None:
    timed: list[str] = []
    own = precision._step_s

    def step(network: torch.nn.Module, images: torch.Tensor, chosen: precision.Precision) -> float:
        own(network, images, chosen)  # both can be computed
        timed.append(chosen)
        return short if chosen == "bfloat16" else 1.0

    monkeypatch.setattr(precision, "_step_s", step)
    sketch = Sketch("cifar/resnet8", num_classes=10, in_channels=3, side=16)
    for determinism in ("fast", "strict"):
        timed.clear()
        recipe = Training.model_validate({"determinism": determinism, "batch_size": 4})
        with as_before():
            machine = prepare("cpu", 1, recipe, sketch)
        assert bool(timed) == (determinism == "fast")
        assert machine.precision == (expected if timed else "float32")
