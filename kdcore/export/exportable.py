"""What an export needs: the network or an ensemble as one, logits, calibration images, metadata."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdcore.evaluation.latency import Speed
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization

CALIBRATION_IMAGES = 256


@dataclass(frozen=True)
class ExportableNetwork:
    """A finished network in eval mode, float32, on the CPU."""

    network: NormalizedModel
    logits: Tensor
    """(N, C) of the test split, from the evaluation."""
    speed: Speed
    """From the report; the safetensors file is this network, so its speed is the same."""
    calibration: Tensor | None = None
    """(M, C, H, W) uint8 training images, needed for int8."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the ONNX files, from :func:`onnx_metadata`."""
    stem: str = "student"
    """First part of the file names."""


class MeanOfProbabilities(nn.Module):
    """The mean of the networks' probabilities, as log-probabilities (B, num_classes).

    All networks take the same normalized images (B, C, H, W). Source, for born-again networks:
    Furlanello et al. 2018, https://arxiv.org/abs/1805.04770.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("an ensemble needs at least one network")
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        """Return log-probabilities (B, num_classes) of images (B, C, H, W)."""
        shares = [functional.log_softmax(network(image), dim=1) for network in self.networks]
        # In log space, because a probability that underflows to 0 has no logarithm.
        return torch.stack(shares).logsumexp(dim=0) - math.log(len(shares))


def onnx_metadata(
    architecture: str,
    classes: Sequence[str],
    normalization: Normalization,
    input_size: int,
    sixteen_bit_range: int | None = None,
) -> dict[str, str]:
    """Return the metadata of an ONNX file: labels and input; lists and objects are JSON.

    ``sixteen_bit_range`` is in the file only if the training images have 16 bits.
    """
    deep = {} if sixteen_bit_range is None else {"sixteen_bit_range": str(sixteen_bit_range)}
    return deep | {
        "architecture": architecture,
        "classes": json.dumps(list(classes), ensure_ascii=False),
        "input_size": str(input_size),
        "normalization": normalization.model_dump_json(),
    }


def calibration_images(train: Tensor, seed: int) -> Tensor:
    """Choose at most 256 of the training images (N, C, H, W); equal for equal seeds."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(train), generator=generator)[:CALIBRATION_IMAGES]
    return train[chosen.sort().values]
