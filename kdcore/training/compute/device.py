"""Where and how a run computes: device, precision, threads, determinism; and what it says of it."""

import contextlib
import os
import platform
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from kdcore.data.augment.views import VIEW_FORMAT
from kdcore.runtime.errors import UserError
from kdcore.schema.training import TrainingConfig
from kdcore.training.compute import autocast_policy as precision
from kdcore.training.compute.autocast_policy import NetworkSpec, Precision

_PACKAGES = ("torch", "numpy", "safetensors")
_deterministic: Any = torch.utils.deterministic


@dataclass(frozen=True)
class ComputeEnv:
    """What a run chose. Equal machines give equal bytes under strict determinism."""

    device: torch.device
    name: str
    precision: Precision
    threads: int
    versions: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As the first phase event and the checkpoint tell it."""
        return {
            "device": str(self.device),
            "device_name": self.name,
            "precision": self.precision,
            "threads": self.threads,
            "versions": self.versions,
        }

    def autocast(self) -> torch.autocast:
        """A context in which the forward pass takes the chosen precision."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        )


def memory_bytes(device: torch.device) -> int:
    """What the training occupies: on an accelerator the most since the last call, else now.

    On a processor that is with what has been freed and is held for the next batch.
    """
    if device.type == "cuda":
        most = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return most
    with contextlib.suppress(OSError, IndexError, ValueError):
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        return resident * os.sysconf("SC_PAGE_SIZE")
    # Elsewhere than on Linux only the peak can be had; macOS tells it in bytes.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


@contextlib.contextmanager
def restore_torch_state() -> Iterator[None]:
    """Give back, after the block, what :func:`prepare` sets: a notebook has its own ways."""
    threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    benchmark, fill_memory = (
        torch.backends.cudnn.benchmark,
        _deterministic.fill_uninitialized_memory,
    )
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(mode)
        torch.backends.cudnn.benchmark = benchmark
        _deterministic.fill_uninitialized_memory = fill_memory


def prepare_compute_env(
    device: str,
    threads: int | None,
    training: TrainingConfig,
    network_spec: NetworkSpec | None = None,
    previous_precision: Precision | None = None,
) -> ComputeEnv:
    """Choose, and set the process up accordingly. Raises ``UserFault`` for a device not there.

    The precision ``auto`` goes by the ``student``; without one it is float32 on a processor. Under
    strict determinism a table decides, else a few steps of it are timed, or the run goes on as it
    did ``before``.
    """
    torch_device = _resolve_device(device)
    strict = training.determinism == "strict"
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    if strict:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # Filling fresh memory would hide no fault of ours and costs a pass over every tensor.
        _deterministic.fill_uninitialized_memory = False
    # Both ways: an earlier run of this process may have been another.
    torch.use_deterministic_algorithms(strict)
    torch.backends.cudnn.benchmark = not strict
    return ComputeEnv(
        device=torch_device,
        name=_device_name(torch_device),
        precision=_choose_precision(torch_device, training, network_spec, previous_precision),
        threads=torch.get_num_threads(),
        versions={
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
            "view format": str(VIEW_FORMAT),
        },
    )


def _resolve_device(requested: str) -> torch.device:
    if requested == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    device = torch.device(requested)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(
            "internal",
            f"there is no device {requested} here, only {torch.cuda.device_count()} accelerators",
            hint="Ask for auto, or cpu.",
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def _choose_precision(
    device: torch.device,
    training: TrainingConfig,
    network_spec: NetworkSpec | None,
    previous_precision: Precision | None,
) -> Precision:
    if training.precision != "auto":
        return training.precision
    if network_spec is None:
        return "float32"
    if training.determinism == "fast":
        return previous_precision or precision.measure_precision(
            device, network_spec, training.batch_size
        )
    return precision.student_precision(device, network_spec)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # Which kernels run is decided by the instruction set, and with them the last digits.
    return f"{_cpu_model()} ({torch.backends.cpu.get_cpu_capability()})"


def _cpu_model() -> str:
    """The processor's name; Python's own `platform.processor()` is empty on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
