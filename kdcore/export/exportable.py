"""What a network is handed over with: its own answers, images to calibrate on, its facts."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdcore.evaluation.latency import Speed
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization

CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class ExportableNetwork:
    """A finished network. ``network`` is in eval mode, float32, on the CPU, and stays there."""

    network: NormalizedModel
    logits: Tensor
    """(N, C) of the test split, as the network gave them while it was evaluated."""
    speed: Speed
    """As measured for the report: the safetensors file is this network, and so as fast."""
    calibration: Tensor | None = None
    """(M, C, H, W) uint8 training images; without them no eight-bit form can be made."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Put into the ONNX files: see :func:`facts`."""
    stem: str = "student"
    """Of the file names."""


def onnx_metadata(
    architecture: str, classes: Sequence[str], normalization: Normalization, input_size: int
) -> dict[str, str]:
    """What a program needs beside the graph; lists and objects are JSON."""
    return {
        "architecture": architecture,
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "input_size": str(input_size),
        "normalization": normalization.model_dump_json(),
    }


def calibration_images(train: Tensor, seed: int) -> Tensor:
    """At most 256 of the training images (N, C, H, W), equal for equal seeds."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(train), generator=generator)[:CALIBRATION_IMAGES]
    return train[chosen.sort().values]
