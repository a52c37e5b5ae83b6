"""Which networks take bfloat16 is told by a table."""

import pytest
import torch

from kdcore.models import build
from kdcore.schema.training import TrainingConfig
from kdcore.training.compute import autocast_policy
from kdcore.training.compute.autocast_policy import NetworkSpec, Processor
from kdcore.training.compute.device import prepare_compute_env, restore_torch_state

PROCESSOR = torch.device("cpu")
AMD = Processor("AuthenticAMD", frozenset({"avx512_bf16"}))


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocast_policy, "_processor", lambda: AMD)


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
    sketch = NetworkSpec(name, num_classes=100, in_channels=3, input_size=side)
    assert autocast_policy.student_precision(PROCESSOR, sketch) == expected
    network = build(name, num_classes=100, in_channels=3, input_size=side)
    assert autocast_policy.teacher_precision(PROCESSOR, network, 3, side) == expected


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (AMD, "bfloat16"),
        (Processor("AuthenticAMD", frozenset({"avx2"})), "float32"),
        # Its vector units multiply bfloat16 no faster than float32; its matrix unit does.
        (Processor("GenuineIntel", frozenset({"avx512_bf16"})), "float32"),
        (Processor("GenuineIntel", frozenset({"avx512_bf16", "amx_bf16"})), "bfloat16"),
        (Processor("", frozenset({"asimd", "bf16"})), "bfloat16"),
        (Processor("", frozenset()), "float32"),
    ],
)
def test_which_processors_gain(
    monkeypatch: pytest.MonkeyPatch, processor: Processor, expected: str
) -> None:
    monkeypatch.setattr(autocast_policy, "_processor", lambda: processor)
    sketch = NetworkSpec("cifar/resnet8x4", num_classes=100, in_channels=3, input_size=32)
    assert autocast_policy.student_precision(PROCESSOR, sketch) == expected
    network = build(sketch.name, num_classes=100, in_channels=3, input_size=32)
    assert autocast_policy.teacher_precision(PROCESSOR, network, 3, 32) == expected


def test_what_the_system_tells() -> None:
    x86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512_bf16 sse\n\n"
    assert autocast_policy._parse_cpuinfo(2 * x86) == (
        "AuthenticAMD",
        {"fpu", "avx512_bf16", "sse"},
    )
    arm = "processor\t: 0\nFeatures\t: fp asimd bf16\nCPU implementer\t: 0x41\n"
    assert autocast_policy._parse_cpuinfo(arm) == ("", {"fp", "asimd", "bf16"})
    assert autocast_policy._parse_cpuinfo("") == ("", frozenset())


def test_what_cannot_multiply_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(autocast_policy, "_processor", lambda: Processor("", frozenset()))
    monkeypatch.setattr(autocast_policy, "_step_s", None)
    sketch = NetworkSpec("cifar/resnet8", num_classes=10, in_channels=3, input_size=16)
    assert autocast_policy.measure_precision(PROCESSOR, sketch, 4) == "float32"


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(("short", "expected"), [(0.5, "bfloat16"), (0.95, "float32")])
def test_without_strict_determinism_steps_are_timed(
    monkeypatch: pytest.MonkeyPatch, short: float, expected: str
) -> None:
    timed: list[str] = []
    own = autocast_policy._step_s

    def step(
        network: torch.nn.Module, images: torch.Tensor, chosen: autocast_policy.Precision
    ) -> float:
        own(network, images, chosen)  # both can be computed
        timed.append(chosen)
        return short if chosen == "bfloat16" else 1.0

    monkeypatch.setattr(autocast_policy, "_step_s", step)
    sketch = NetworkSpec("cifar/resnet8", num_classes=10, in_channels=3, input_size=16)
    for determinism in ("fast", "strict"):
        timed.clear()
        recipe = TrainingConfig.model_validate({"determinism": determinism, "batch_size": 4})
        with restore_torch_state():
            machine = prepare_compute_env("cpu", 1, recipe, sketch)
        assert bool(timed) == (determinism == "fast")
        assert machine.precision == (expected if timed else "float32")
