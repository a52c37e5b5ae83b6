"""Download weights that torchvision and timm publish, and write them as a model."""

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
    """Download the weights, unless the library has them in its cache, and write safetensors.

    Raises :class:`UserError` ``teacher_load_failed`` for an unknown name and a failed download, and
    :class:`RunCancelledError`.
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
    """Return the names of the classes in the order of the logits, or None if unknown."""
    info = resolve_pretrained(name)
    if info.architecture.startswith("torchvision/"):
        from torchvision import models

        return tuple(models.get_weight(info.weights).meta["categories"])
    from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": num_classes})
    return tuple(ImageNetInfo(subset).label_descriptions()) if subset else None
