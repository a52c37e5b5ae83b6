"""Weights that torchvision and timm publish, as a model that a project can use."""

from pathlib import Path

import torch

from kdcore.models import build
from kdcore.models.pretrained import Pretrained, pretrained, resolve
from kdcore.runtime.cancellation import Stop
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import ModelInfo
from kdcore.weights.verify import hand_over


def fetch(name: str, workdir: Path, events: EventWriter, stop: Stop) -> None:
    """Download the weights, or take them from the libraries' caches, and write safetensors.

    Raises UserFault ``teacher_load_failed`` where there are none of the name, or they cannot be
    downloaded or read, and Stopped.
    """
    events.phase("download")
    found = pretrained(name)
    stop.check()
    tensors = {key: value.detach().clone().contiguous() for key, value in found.weights.items()}
    hand_over(dict(sorted(tensors.items())), _info(name, found), workdir, events)


def _info(name: str, found: Pretrained) -> ModelInfo:
    with torch.device("meta"):
        network = build(
            found.architecture, num_classes=found.num_classes, input_size=found.input_size
        )
    return ModelInfo(
        architecture=found.architecture,
        num_classes=found.num_classes,
        in_channels=len(found.normalisation.mean),
        num_params=sum(parameter.numel() for parameter in network.parameters()),
        input_size=found.input_size,
        normalisation=found.normalisation,
        class_names=_class_names(name, found.num_classes),
        licence=found.licence,
    )


def _class_names(name: str, num_classes: int) -> tuple[str, ...] | None:
    """The classes in the order of the logits; None where the library does not say."""
    published = resolve(name)
    if published.architecture.startswith("torchvision/"):
        from torchvision import models

        return tuple(models.get_weight(published.weights).meta["categories"])
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": num_classes})
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else None
