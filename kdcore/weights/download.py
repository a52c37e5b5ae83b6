"""Weights that torchvision and timm publish, as a model that a project can use."""

from pathlib import Path

import torch

from kdcore.models import build
from kdcore.models.pretrained import PretrainedWeights, load_pretrained, resolve_pretrained
from kdcore.runtime.cancellation import CancellationToken
from kdcore.runtime.event_writer import EventWriter
from kdcore.schema.asset_info import ModelInfo
from kdcore.weights.safetensors_io import write_model


def download_weights(
    name: str, workdir: Path, events: EventWriter, cancellation: CancellationToken
) -> None:
    """Download the weights, or take them from the libraries' caches, and write safetensors.

    Raises UserFault ``teacher_load_failed`` where there are none of the name, or they cannot be
    downloaded or read, and Stopped.
    """
    events.phase("download")
    pretrained_weights = load_pretrained(name)
    cancellation.check_cancelled()
    tensors = {
        key: value.detach().clone().contiguous()
        for key, value in pretrained_weights.weights.items()
    }
    write_model(
        dict(sorted(tensors.items())), _model_info(name, pretrained_weights), workdir, events
    )


def _model_info(name: str, pretrained_weights: PretrainedWeights) -> ModelInfo:
    with torch.device("meta"):
        network = build(
            pretrained_weights.architecture,
            num_classes=pretrained_weights.num_classes,
            input_size=pretrained_weights.input_size,
        )
    return ModelInfo(
        architecture=pretrained_weights.architecture,
        num_classes=pretrained_weights.num_classes,
        in_channels=len(pretrained_weights.normalization.mean),
        num_params=sum(parameter.numel() for parameter in network.parameters()),
        input_size=pretrained_weights.input_size,
        normalization=pretrained_weights.normalization,
        class_names=_class_names(name, pretrained_weights.num_classes),
        license=pretrained_weights.license,
    )


def _class_names(name: str, num_classes: int) -> tuple[str, ...] | None:
    """The classes in the order of the logits; None where the library does not say."""
    info = resolve_pretrained(name)
    if info.architecture.startswith("torchvision/"):
        from torchvision import models

        return tuple(models.get_weight(info.weights).meta["categories"])
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": num_classes})
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else None
