"""Measure latency and throughput of a network or an exported file within a time limit.

``torch.utils.benchmark.Timer`` would not be shorter: it averages over blocks of calls, while the
report needs percentiles of single calls and a limit on the time.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from kdcore.schema.report import Latency

ROUNDS, _ROUND_S = 6, 0.12
"""Windows of each measurement, and seconds of a window. Other load on the machine can only make a
window slower, so the fastest window is closest to the network's time."""
STEADY_SPREAD = 1.15
"""Largest spread of a steady measurement: median of the windows over the fastest window."""
STEADY_TAIL = 3.0
"""Largest tail of a steady measurement: p95 over p50 of the fastest window. Other load that stops
single calls for a time slice leaves the medians as they are."""
_PAUSE_S = 1.0
"""Seconds before an unsteady measurement is repeated, in which other load may end."""
_MIN_CALLS, _MAX_CALLS, _WARMUP_CALLS = 3, 60, 3
_THROUGHPUT_BATCH = 32


class Speed(NamedTuple):
    """Latency and throughput of a network."""

    latency_ms: Latency
    images_per_s: float


def measure_speed(
    network: nn.Module, shape: tuple[int, int, int], device: torch.device, rounds: int = ROUNDS
) -> Speed:
    """Measure a network in eval mode on images (C, H, W): latency at batch 1, throughput at 32.

    The fastest of ``rounds`` windows counts. An unsteady measurement is repeated once, and the
    steadier one counts.
    """
    network.eval()
    with _one_thread():
        single = _time_network(network, torch.rand(1, *shape), device, rounds)
    batch = _time_network(network, torch.rand(_THROUGHPUT_BATCH, *shape), device, rounds)
    return _speed(single, batch)


def measure_callables(
    one_thread: Callable[[Tensor], object],
    all_threads: Callable[[Tensor], object],
    shape: tuple[int, int, int],
    rounds: int = ROUNDS,
) -> Speed:
    """Measure callables of images (B, C, H, W) on the CPU like :func:`measure_speed`.

    Both may be one callable that uses torch's number of threads.
    """
    cpu = torch.device("cpu")
    with _one_thread():
        single = _time_calls(one_thread, torch.rand(1, *shape), cpu, rounds)
    batch = _time_calls(all_threads, torch.rand(_THROUGHPUT_BATCH, *shape), cpu, rounds)
    return _speed(single, batch)


class _Timing(NamedTuple):
    """Times of the calls of the fastest window, and how far the windows differ."""

    calls_s: list[float]
    spread: float

    @property
    def unsteadiness(self) -> float:
        """Above 1 for an unsteady latency: spread or tail, as a part of its limit."""
        p50, p95 = np.percentile(self.calls_s, [50, 95])
        return max(self.spread / STEADY_SPREAD, float(p95 / p50) / STEADY_TAIL)


def _speed(single: _Timing, batch: _Timing) -> Speed:
    p50, p95 = np.percentile(single.calls_s, [50, 95])
    latency = Latency(
        p50=1000 * float(p50),
        p95=1000 * float(p95),
        spread=single.spread,
        unsteady=single.unsteadiness > 1,
    )
    return Speed(latency, images_per_s=_THROUGHPUT_BATCH / float(np.median(batch.calls_s)))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Use one thread, because for one image a second thread costs more than it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _time_network(network: nn.Module, images: Tensor, device: torch.device, rounds: int) -> _Timing:
    batch = images.to(device).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        return _time_calls(network, batch, device, rounds)


def _time_calls(
    call: Callable[[Tensor], object], images: Tensor, device: torch.device, rounds: int
) -> _Timing:
    for _ in range(_WARMUP_CALLS):
        call(images)
    timing = _time_windows(lambda: call(images), device, rounds)
    # Throughput is a median, which single slow calls leave as it is; one window tells too little.
    counts_tail = len(images) == 1 and rounds > 1
    if timing.spread <= STEADY_SPREAD and not (counts_tail and timing.unsteadiness > 1):
        return timing
    time.sleep(_PAUSE_S)
    repeated = _time_windows(lambda: call(images), device, rounds)
    return min(timing, repeated, key=lambda candidate: candidate.unsteadiness)


def _time_windows(call: Callable[[], object], device: torch.device, rounds: int) -> _Timing:
    windows = [_time_round(call, device) for _ in range(rounds)]
    medians = [float(np.median(window)) for window in windows]
    fastest = int(np.argmin(medians))
    return _Timing(windows[fastest], float(np.median(medians)) / medians[fastest])


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
