"""A downloaded student at work, with no service running. Needs the `engine` extra (torch)."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.catalog import Normalization
from kdcore.schema.exports import STUDENT_FILE
from kdcore.schema.old_spelling import with_current_spelling


def load(folder: Path | str) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The network in a folder with ``student.safetensors`` and ``config.json``, ready to use.

    Returns the network in eval mode, which maps images (B, C, H, W) that are scaled to 0..1 and
    normalized by ``config["normalization"]`` to logits (B, num_classes), and its configuration.
    ``config["channels"]`` is the rule by which images of other channels become the network's.
    """
    folder = Path(folder)
    config = with_current_spelling(json.loads((folder / "config.json").read_text()))
    # A derived network is traced to be built, which inference mode does not allow.
    with torch.inference_mode(mode=False):
        network = build(
            config["architecture"],
            num_classes=config["num_classes"],
            in_channels=config["in_channels"],
            input_size=config["input_size"],
        )
    network.load_state_dict(load_file(folder / STUDENT_FILE))
    return network.eval(), config


@torch.inference_mode()
def top1(folder: Path, dataset: Path) -> float:
    """Accuracy, in percent, of a folder's student on the test split of an ingested data set."""
    network, config = load(folder)
    split = load_file(dataset)
    normalization = Normalization.model_validate(config["normalization"])
    size = config["input_size"]
    model = NormalizedModel(network, normalization, size, config.get("channels"))
    logits = model(split["test/images"])  # (N, C, H, W)
    return float((logits.argmax(1) == split["test/targets"]).double().mean()) * 100
