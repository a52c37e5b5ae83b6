"""The bfloat16 policy: a table of networks and processors, so that equal jobs compute alike.

Jobs without strict determinism may time a few steps instead. The table follows measurements
(docs/reference/speed.md). On two AMD cores with AVX-512 BF16 a large dense convolution takes a bit
more than half of its float32 time and a grouped one up to twice as long; small convolutions gain
too little to give up digits. On Intel processors with these instructions but without a matrix unit
everything takes longer.
"""

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from kdcore.models.factory import build
from kdcore.models.flops import macs

Precision = Literal["float32", "bfloat16"]
_MIN_MACS = 20_000_000
"""Fewest multiplications of one image for which bfloat16 pays."""
_TIMED_STEPS, _MAX_TIME_RATIO = 3, 0.9
"""Timed steps per precision, and the largest share of the float32 time that selects bfloat16."""
_MATRIX_UNITS = {"amx_bf16", "bf16"}
"""CPU flags of Intel's and Arm's bfloat16 matrix units; their gain is assumed, not measured."""
_VECTOR_UNITS = "avx512_bf16"
"""CPU flag of vector units that multiply bfloat16: faster on AMD, slower on Intel."""


class Processor(NamedTuple):
    """Vendor and feature flags of the CPU, as the operating system reports them."""

    vendor: str
    flags: frozenset[str]


class NetworkSpec(NamedTuple):
    """Architecture and input of a network that is not built yet."""

    name: str
    num_classes: int
    in_channels: int
    input_size: int

    def build_network(self) -> nn.Module:
        """Build the network with random weights."""
        return build(
            self.name,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            input_size=self.input_size,
        )


def time_step(network: nn.Module, images: torch.Tensor, precision: Precision) -> float:
    """Seconds of one forward and backward pass of ``images`` (B, C, H, W) on the CPU."""
    started = time.perf_counter()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        loss = network(images).float().logsumexp(dim=1).mean()
    loss.backward()
    network.zero_grad(set_to_none=True)
    return time.perf_counter() - started


@functools.cache
def read_processor() -> Processor:
    """The processor of this machine; without vendor and flags where Linux's cpuinfo is missing."""
    try:
        return parse_cpuinfo(Path("/proc/cpuinfo").read_text())
    except OSError:
        return Processor("", frozenset())


def parse_cpuinfo(cpuinfo: str) -> Processor:
    """The last processor in the text of ``/proc/cpuinfo``; all cores are assumed equal."""
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    fields = {name.strip(): rest.strip() for name, _, rest in lines}
    flags = fields.get("flags") or fields.get("Features", "")
    return Processor(fields.get("vendor_id", ""), frozenset(flags.split()))


@dataclass(frozen=True)
class AutocastPolicy:
    """Choose float32 or bfloat16 for a network on this machine."""

    processor: Processor = field(default_factory=read_processor)
    time_step: Callable[[nn.Module, torch.Tensor, Precision], float] = time_step

    def student_precision(self, device: torch.device, network_spec: NetworkSpec) -> Precision:
        """Precision for training this network, from the table."""
        if device.type != "cpu":
            return _accelerator_precision(device)
        if not self._gains_from_bfloat16:
            return "float32"
        try:
            with torch.device("meta"):
                network = network_spec.build_network()
            return _table_precision(network, network_spec.in_channels, network_spec.input_size)
        except (RuntimeError, NotImplementedError, TypeError):
            return "float32"  # its operations cannot be counted on the meta device

    def measure_precision(
        self, device: torch.device, network_spec: NetworkSpec, batch_size: int
    ) -> Precision:
        """Precision for training this network, from the time of a few steps on the CPU.

        An accelerator follows the table: timing float32 could exceed its memory.
        """
        if device.type != "cpu":
            return _accelerator_precision(device)
        if not self.processor.flags & {*_MATRIX_UNITS, _VECTOR_UNITS}:
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
                seconds.append(self.time_step(network, images, precision))
        # The first step of each precision chooses kernels and fills caches.
        float32_s, bfloat16_s = (min(times[name][1:]) for name in ("float32", "bfloat16"))
        return "bfloat16" if bfloat16_s < _MAX_TIME_RATIO * float32_s else "float32"

    def teacher_precision(
        self, device: torch.device, network: nn.Module, in_channels: int, input_size: int
    ) -> Precision:
        """Precision for the forward passes of a frozen network, from the table."""
        if device.type != "cpu":
            return _accelerator_precision(device)
        if not self._gains_from_bfloat16:
            return "float32"
        return _table_precision(network, in_channels, input_size)

    @property
    def _gains_from_bfloat16(self) -> bool:
        flags = self.processor.flags
        amd = self.processor.vendor == "AuthenticAMD" and _VECTOR_UNITS in flags
        return amd or bool(_MATRIX_UNITS & flags)


def _accelerator_precision(device: torch.device) -> Precision:
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return "bfloat16"
    return "float32"


def _table_precision(network: nn.Module, in_channels: int, input_size: int) -> Precision:
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions or any(layer.groups > 1 for layer in convolutions):
        return "float32"
    return "bfloat16" if macs(network, in_channels, input_size) >= _MIN_MACS else "float32"
