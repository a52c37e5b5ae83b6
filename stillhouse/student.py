"""Load and evaluate a downloaded student without the service. Needs the `engine` extra (torch)."""

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
    """Load the network in a folder with ``student.safetensors`` and ``config.json``.

    Returns:
        The network in eval mode, and its configuration. The network maps images (B, C, H, W),
        scaled to 0..1 and normalized by ``config["normalization"]``, to logits (B, num_classes).
        ``config["channels"]`` is the rule that converts images with other channels.
    """
    folder = Path(folder)
    config = with_current_spelling(json.loads((folder / "config.json").read_text()))
    # Building a derived network traces it, which fails in inference mode.
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
    """Return the student's top-1 on the test split of an ingested data set, in percent."""
    network, config = load(folder)
    split = load_file(dataset)
    normalization = Normalization.model_validate(config["normalization"])
    size = config["input_size"]
    model = NormalizedModel(network, normalization, size, config.get("channels"))
    logits = model(split["test/images"])  # images are (N, C, H, W)
    return float((logits.argmax(1) == split["test/targets"]).double().mean()) * 100
