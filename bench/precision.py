"""Time of a training step in float32, divided by its time in bfloat16, by network.

The table in kdcore.training.compute.autocast_policy is based on this. One thread; steps of both
precisions alternate.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn import functional

from kdcore.models import build
from kdcore.models.flops import macs

NETWORKS = (
    *(("cifar/resnet8", 16), ("cifar/resnet20", 16), ("cifar/resnet8", 32)),
    *(("cifar/resnet20", 32), ("cifar/resnet8x4", 16), ("cifar/resnet8x4", 32)),
    *(("cifar/MobileNetV2", 32), ("cifar/ShuffleV2", 32)),
)
BATCH, CLASSES, ROUNDS = 64, 100, 7


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    print("| network | side | million MACs | float32 / bfloat16 |")
    print("|---|---|---|---|")
    for name, side in NETWORKS:
        step, cost = _build_step(name, side)
        step(bfloat16=True)
        ratios = [_ratio(step) for _ in range(ROUNDS)]
        ratio_text = f"{statistics.median(ratios):.2f} [{min(ratios):.2f}-{max(ratios):.2f}]"
        print(f"| {name.removeprefix('cifar/')} | {side} | {cost / 1e6:.1f} | {ratio_text} |")


def _build_step(name: str, side: int) -> tuple[Callable[..., None], int]:
    network = build(name, num_classes=CLASSES, in_channels=3, input_size=side)
    cost = macs(network, 3, side)
    network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, fused=True)
    images = torch.rand(BATCH, 3, side, side).contiguous(memory_format=torch.channels_last)
    target = torch.randint(0, CLASSES, (BATCH,))

    def step(*, bfloat16: bool) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            loss = functional.cross_entropy(network(images).float(), target)
        loss.backward()
        optimizer.step()

    return step, cost


def _ratio(step: Callable[..., None]) -> float:
    return _seconds(step, bfloat16=False) / _seconds(step, bfloat16=True)


def _seconds(step: Callable[..., None], *, bfloat16: bool) -> float:
    start = time.process_time()
    step(bfloat16=bfloat16)
    return time.process_time() - start


if __name__ == "__main__":
    main()
