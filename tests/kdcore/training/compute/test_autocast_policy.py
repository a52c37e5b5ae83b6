"""The bfloat16 policy: a table of networks and processors, or the time of a few steps."""

import pytest
import torch

from kdcore.models import build
from kdcore.schema.training_config import TrainingConfig
from kdcore.training.compute.autocast_policy import (
    AutocastPolicy,
    NetworkSpec,
    Precision,
    Processor,
    parse_cpuinfo,
    time_step,
)
from kdcore.training.compute.device import prepare_compute_env, restore_torch_state

CPU = torch.device("cpu")
AMD = Processor("AuthenticAMD", frozenset({"avx512_bf16"}))


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("cifar/resnet8x4", 32, "bfloat16"),
        ("cifar/resnet20", 32, "bfloat16"),
        ("cifar/resnet8x4", 8, "float32"),  # too few multiplications
        ("cifar/resnet8", 32, "float32"),
        ("cifar/MobileNetV2", 32, "float32"),  # depthwise convolutions take twice as long
        ("cifar/resnet32x4+grouped-8+width-0.5", 32, "float32"),
        ("torchvision/resnet18", 64, "bfloat16"),
        ("torchvision/mobilenet_v3_small", 224, "float32"),
    ],
)
def test_table_selects_large_dense_networks(name: str, side: int, expected: str) -> None:
    policy = AutocastPolicy(AMD)
    network_spec = NetworkSpec(name, num_classes=100, in_channels=3, input_size=side)
    assert policy.student_precision(CPU, network_spec) == expected
    network = build(name, num_classes=100, in_channels=3, input_size=side)
    assert policy.teacher_precision(CPU, network, 3, side) == expected


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (AMD, "bfloat16"),
        (Processor("AuthenticAMD", frozenset({"avx2"})), "float32"),
        # Intel's vector units multiply bfloat16 no faster than float32; its matrix unit does.
        (Processor("GenuineIntel", frozenset({"avx512_bf16"})), "float32"),
        (Processor("GenuineIntel", frozenset({"avx512_bf16", "amx_bf16"})), "bfloat16"),
        (Processor("", frozenset({"asimd", "bf16"})), "bfloat16"),
        (Processor("", frozenset()), "float32"),
    ],
)
def test_table_selects_processors_that_gain(processor: Processor, expected: str) -> None:
    policy = AutocastPolicy(processor)
    network_spec = NetworkSpec("cifar/resnet8x4", num_classes=100, in_channels=3, input_size=32)
    assert policy.student_precision(CPU, network_spec) == expected
    network = build(network_spec.name, num_classes=100, in_channels=3, input_size=32)
    assert policy.teacher_precision(CPU, network, 3, 32) == expected


def test_cpuinfo_is_parsed_on_x86_and_arm() -> None:
    x86 = "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512_bf16 sse\n\n"
    assert parse_cpuinfo(2 * x86) == ("AuthenticAMD", {"fpu", "avx512_bf16", "sse"})
    arm = "processor\t: 0\nFeatures\t: fp asimd bf16\nCPU implementer\t: 0x41\n"
    assert parse_cpuinfo(arm) == ("", {"fp", "asimd", "bf16"})
    assert parse_cpuinfo("") == ("", frozenset())


def test_processors_without_bfloat16_are_not_timed() -> None:
    def fail(_network: torch.nn.Module, _images: torch.Tensor, _precision: Precision) -> float:
        raise AssertionError("a step was timed")

    policy = AutocastPolicy(Processor("", frozenset()), fail)
    network_spec = NetworkSpec("cifar/resnet8", num_classes=10, in_channels=3, input_size=16)
    assert policy.measure_precision(CPU, network_spec, 4) == "float32"


@pytest.mark.parametrize(("seconds", "expected"), [(0.5, "bfloat16"), (0.95, "float32")])
def test_steps_are_timed_without_strict_determinism(seconds: float, expected: str) -> None:
    timed: list[Precision] = []

    def record_step(network: torch.nn.Module, images: torch.Tensor, precision: Precision) -> float:
        time_step(network, images, precision)  # both precisions can be computed
        timed.append(precision)
        return seconds if precision == "bfloat16" else 1.0

    policy = AutocastPolicy(AMD, record_step)
    network_spec = NetworkSpec("cifar/resnet8", num_classes=10, in_channels=3, input_size=16)
    for determinism in ("fast", "strict"):
        timed.clear()
        training = TrainingConfig.model_validate({"determinism": determinism, "batch_size": 4})
        with restore_torch_state():
            compute_env = prepare_compute_env("cpu", 1, training, network_spec, policy=policy)
        assert bool(timed) == (determinism == "fast")
        assert compute_env.precision == (expected if timed else "float32")
