"""Which networks gain from bfloat16, and where: by a table, so that equal jobs compute alike.

Only a job that does without strict determinism may measure instead. The table was measured
(docs/reference/speed.md): on two cores of AMD's with AVX-512 BF16, dense convolutions of some size
take a good half of the time, grouped ones up to twice as long, and what is small gains less than
its digits are worth; on Intel's with the same instructions and no matrix unit everything takes
longer.
"""

import functools
import time
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from kdcore.models.factory import build
from kdcore.models.flops import macs

Precision = Literal["float32", "bfloat16"]
_MIN_MACS = 20_000_000
"""Of one image."""
_TIMED_STEPS, _MAX_TIME_RATIO = 3, 0.9
"""Steps that are timed, and the share of float32's time below which digits are given up."""
_MATRIX_UNITS = {"amx_bf16", "bf16"}
"""Flags of Intel's and Arm's processors that are made for bfloat16; not measured."""
_VECTOR_UNITS = "avx512_bf16"
"""Flag of processors whose vector units multiply it: AMD's gain, Intel's take longer."""


class Processor(NamedTuple):
    """What the system tells of the processor."""

    vendor: str
    flags: frozenset[str]


class NetworkSpec(NamedTuple):
    """A network that is not built yet, at the images that it will see."""

    name: str
    num_classes: int
    in_channels: int
    input_size: int

    def build_network(self) -> nn.Module:
        """It, with fresh weights."""
        return build(
            self.name,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            input_size=self.input_size,
        )


def student_precision(device: torch.device, network_spec: NetworkSpec) -> Precision:
    """What a training of this network takes when it may choose."""
    if device.type != "cpu":
        return _accelerator_precision(device)
    if not _gains_from_bfloat16(_processor()):
        return "float32"
    try:
        with torch.device("meta"):
            network = network_spec.build_network()
        return _table_precision(network, network_spec.in_channels, network_spec.input_size)
    except (RuntimeError, NotImplementedError, TypeError):
        return "float32"  # it cannot be counted without being built


def measure_precision(
    device: torch.device, network_spec: NetworkSpec, batch_size: int
) -> Precision:
    """What a few steps of this network say, on a processor that can do both.

    An accelerator goes by the table: there float32 may need more memory than there is.
    """
    if device.type != "cpu":
        return _accelerator_precision(device)
    if not _processor().flags & {*_MATRIX_UNITS, _VECTOR_UNITS}:
        return "float32"
    network = network_spec.build_network()
    network.to(memory_format=torch.channels_last).train()
    images = torch.rand(
        batch_size, network_spec.in_channels, network_spec.input_size, network_spec.input_size
    )
    images = images.contiguous(memory_format=torch.channels_last)
    times: dict[Precision, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(1 + _TIMED_STEPS):
        for precision, seconds in times.items():
            seconds.append(_step_s(network, images, precision))
    # The first step of each chooses kernels and fills caches.
    float32_s, bfloat16_s = (min(times[precision][1:]) for precision in ("float32", "bfloat16"))
    return "bfloat16" if bfloat16_s < _MAX_TIME_RATIO * float32_s else "float32"


def _step_s(network: nn.Module, images: torch.Tensor, precision: Precision) -> float:
    started = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        loss = network(images).float().logsumexp(dim=1).mean()
    loss.backward()
    network.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def teacher_precision(
    device: torch.device, network: nn.Module, in_channels: int, input_size: int
) -> Precision:
    """The same of a network that is there and only asked."""
    if device.type != "cpu":
        return _accelerator_precision(device)
    return (
        _table_precision(network, in_channels, input_size)
        if _gains_from_bfloat16(_processor())
        else "float32"
    )


def _accelerator_precision(device: torch.device) -> Precision:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return "bfloat16"
    return "float32"


def _table_precision(network: nn.Module, in_channels: int, input_size: int) -> Precision:
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions or any(layer.groups > 1 for layer in convolutions):
        return "float32"
    return "bfloat16" if macs(network, in_channels, input_size) >= _MIN_MACS else "float32"


def _gains_from_bfloat16(processor: Processor) -> bool:
    amd = processor.vendor == "AuthenticAMD" and _VECTOR_UNITS in processor.flags
    return amd or bool(_MATRIX_UNITS & processor.flags)


@functools.cache
def _processor() -> Processor:
    try:
        return _parse_cpuinfo(Path("/proc/cpuinfo").read_text())
    except OSError:
        return Processor("", frozenset())


def _parse_cpuinfo(cpuinfo: str) -> Processor:
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    # Of the last core; they are alike.
    facts = {name.strip(): rest.strip() for name, _, rest in lines}
    flags = facts.get("flags") or facts.get("Features", "")
    return Processor(facts.get("vendor_id", ""), frozenset(flags.split()))
