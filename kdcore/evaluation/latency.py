"""How fast a network answers, in PyTorch or as a file, measured within a time limit."""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kdcore.schema.report import Latency

_ROUNDS, _ROUND_S = 6, 0.12
"""Of each of the two measurements, after its warm-up. Whatever else the machine does makes a round
slower and never faster, so that the fastest round is nearest to the network's own time."""
_MIN_CALLS, _MAX_CALLS, _WARMUP_CALLS = 3, 60, 3
_THROUGHPUT_BATCH = 32


class Speed(NamedTuple):
    """What a report says of a network's speed."""

    latency_ms: Latency
    images_per_s: float


def measure_speed(network: nn.Module, shape: tuple[int, int, int], device: torch.device) -> Speed:
    """Forward passes in eval mode of (C, H, W) images: latency at batch 1, throughput at 32."""
    network.eval()
    with _one_thread():
        single = _time_network(network, torch.rand(1, *shape), device)
    return _speed(single, _time_network(network, torch.rand(_THROUGHPUT_BATCH, *shape), device))


def measure_callables(
    one_thread: Callable[[Tensor], object],
    all_threads: Callable[[Tensor], object],
    shape: tuple[int, int, int],
) -> Speed:
    """The same of callables of images (B, C, H, W) on the CPU; they may be one that follows torch's
    number of threads."""
    cpu = torch.device("cpu")
    with _one_thread():
        single = _time_calls(one_thread, torch.rand(1, *shape), cpu)
    return _speed(single, _time_calls(all_threads, torch.rand(_THROUGHPUT_BATCH, *shape), cpu))


def _speed(single: list[float], batch: list[float]) -> Speed:
    p50, p95 = np.percentile(single, [50, 95])
    return Speed(
        latency_ms=Latency(p50=1000 * float(p50), p95=1000 * float(p95)),
        images_per_s=_THROUGHPUT_BATCH / float(np.median(batch)),
    )


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """One image is too little work to share: waking a second thread costs more than it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _time_network(network: nn.Module, images: Tensor, device: torch.device) -> list[float]:
    batch = images.to(device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return _time_calls(network, batch, device)


def _time_calls(
    call: Callable[[Tensor], object], images: Tensor, device: torch.device
) -> list[float]:
    for _ in range(_WARMUP_CALLS):
        call(images)
    rounds = [_time_round(lambda: call(images), device) for _ in range(_ROUNDS)]
    return min(rounds, key=np.median)


def _time_round(call: Callable[[], object], device: torch.device) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + _ROUND_S
    while len(times) < _MIN_CALLS or (len(times) < _MAX_CALLS and time.perf_counter() < end):
        times.append(_time_call(call, device))
    return times


def _time_call(call: Callable[[], object], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start
