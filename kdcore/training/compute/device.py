"""ComputeEnv: the device, precision, threads and determinism of a run."""

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
from kdcore.schema.training_config import TrainingConfig
from kdcore.training.compute.autocast_policy import AutocastPolicy, NetworkSpec, Precision

_PACKAGES = ("torch", "numpy", "safetensors")
_deterministic: Any = torch.utils.deterministic


@dataclass(frozen=True)
class ComputeEnv:
    """Device and precision of a run. Equal environments give equal bytes if strict."""

    device: torch.device
    name: str
    precision: Precision
    threads: int
    versions: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """As JSON, for the first phase event and for checkpoints."""
        return {
            "device": str(self.device),
            "device_name": self.name,
            "precision": self.precision,
            "threads": self.threads,
            "versions": self.versions,
        }

    def autocast(self) -> torch.autocast:
        """Context manager for forward passes in the chosen precision."""
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        )


def memory_bytes(device: torch.device) -> int:
    """Bytes of memory in use: on CUDA the peak since the last call, on a CPU the current value.

    On a CPU this includes memory that the allocator retains for the next batch.
    """
    if device.type == "cuda":
        most = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return most
    with contextlib.suppress(OSError, IndexError, ValueError):
        resident = int(Path("/proc/self/statm").read_text().split()[1])
        return resident * os.sysconf("SC_PAGE_SIZE")
    # Other systems than Linux report only the peak; macOS reports it in bytes, others in KiB.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


@contextlib.contextmanager
def restore_torch_state() -> Iterator[None]:
    """Restore, after the block, the torch globals that :func:`prepare_compute_env` sets.

    A notebook that trains a student keeps its own settings.
    """
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
    policy: AutocastPolicy | None = None,
) -> ComputeEnv:
    """Choose the environment and set torch's globals accordingly.

    ``training.precision`` ``auto`` depends on the network to train, ``network_spec``; without one
    it is float32. Under strict determinism the table of ``policy`` decides. Otherwise a few steps
    are timed, unless the run resumes with ``previous_precision``. Raises ``UserError`` if the
    device does not exist.
    """
    torch_device = _resolve_device(device)
    strict = training.determinism == "strict"
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    if strict:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        # The engine writes all memory before it reads it; filling costs a pass over every tensor.
        _deterministic.fill_uninitialized_memory = False
    # Set in both cases: an earlier run of this process may have set the opposite.
    torch.use_deterministic_algorithms(strict)
    torch.backends.cudnn.benchmark = not strict
    return ComputeEnv(
        device=torch_device,
        name=_device_name(torch_device),
        precision=_choose_precision(
            policy or AutocastPolicy(), torch_device, training, network_spec, previous_precision
        ),
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
            f"this machine has no device {requested}; it has {torch.cuda.device_count()} "
            "accelerators",
            hint="Set device to auto or cpu.",
        )
    return torch.device("cuda", device.index or 0) if device.type == "cuda" else device


def _choose_precision(
    policy: AutocastPolicy,
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
        return previous_precision or policy.measure_precision(
            device, network_spec, training.batch_size
        )
    return policy.student_precision(device, network_spec)


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    # The instruction set decides which kernels run, and these decide the last digits.
    return f"{_cpu_model()} ({torch.backends.cpu.get_cpu_capability()})"


def _cpu_model() -> str:
    """Model name of the processor; ``platform.processor()`` is empty on Linux."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
