"""Load published weights of torchvision and timm by name, fitted to a network."""

import contextlib
import difflib
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.models import timm_networks, torchvision_networks
from kdcore.models.factory import build
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import Normalization

_LIBRARY_ERRORS = (OSError, RuntimeError, ValueError, LookupError)
"""What the libraries raise for a failed download and for a file of another network."""
_DOWNLOAD_TIMEOUT_S = 30.0
"""A server that sends nothing for this time ends a download."""
_UPLOAD_HINT = "check the worker's network connection, or upload the checkpoint as a model"


class PretrainedInfo(NamedTuple):
    """Facts of published weights, without a download."""

    architecture: str
    weights: str
    """The library's name of the weights, such as ``ResNet50_Weights.IMAGENET1K_V2``."""
    normalization: Normalization
    input_size: int
    num_classes: int
    """0 without a classifier."""
    license: str


class PretrainedWeights(NamedTuple):
    """Published weights that fit a network of ``build`` with the same arguments."""

    weights: dict[str, Tensor]
    normalization: Normalization
    """One mean and deviation for each input channel of the network."""
    input_size: int
    """Side in pixels of the images that the weights were trained on."""
    num_classes: int
    """Classes of the network that the weights fit."""
    architecture: str
    license: str
    class_names: tuple[str, ...] | None = None
    """In the order of the logits; None if the library does not name them, or for another number of
    classes."""


def load_pretrained(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    input_size: int | None = None,
    cache: Path | None = None,
) -> PretrainedWeights:
    """Download weights and fit them to ``num_classes``, ``in_channels`` and ``input_size``.

    ``name`` is a name for :func:`resolve_pretrained`. None means the number of the published
    weights. Another number of classes gets a new classifier, drawn from torch's global generator.
    For one input channel the stem's weights are summed over the three channels. ``cache`` is a
    folder for downloads; None is the library's (``TORCH_HOME``, ``HF_HOME``). Raises
    :class:`UserError` ``teacher_load_failed`` for unknown weights and failed downloads.
    """
    info = resolve_pretrained(name)
    classes = info.num_classes if num_classes is None else num_classes
    if classes < 1:
        raise _load_error(
            f"the weights {name} have no classifier; choose other weights, or set num_classes"
        )
    size = info.input_size if input_size is None else input_size
    fetch = _torchvision if info.architecture.startswith("torchvision/") else _timm
    try:
        with _download_timeout():
            weights = fetch(info, classes, in_channels, size, cache)
    except _LIBRARY_ERRORS as error:
        raise _load_error(f"the weights {name} could not be downloaded or read: {error}") from error
    return PretrainedWeights(
        weights=weights,
        normalization=_normalization_for_channels(info.normalization, in_channels),
        input_size=info.input_size,
        num_classes=classes,
        architecture=info.architecture,
        license=info.license,
        class_names=class_names_of(info) if classes == info.num_classes else None,
    )


def class_names_of(info: PretrainedInfo) -> tuple[str, ...] | None:
    """Return the names of the classes in the order of the logits, or None if unknown."""
    if info.architecture.startswith("torchvision/"):
        return torchvision_networks.class_names_of(info.weights)
    return timm_networks.class_names_of(info.num_classes)


def resolve_pretrained(name: str) -> PretrainedInfo:
    """Look up published weights by name, without a download.

    A name is ``torchvision`` or ``timm``, a slash or a colon, and one of: an architecture (its
    default weights), an architecture and weights after a dot, torchvision's full name. Examples:
    ``torchvision/resnet50``, ``timm/resnet50.a1_in1k``,
    ``torchvision:ResNet50_Weights.IMAGENET1K_V2``. Raises :class:`UserError`
    ``teacher_load_failed``, with suggestions, for an unknown name.
    """
    library, _, bare = name.replace(":", "/", 1).partition("/")
    if library == "torchvision":
        return _resolve_torchvision(bare)
    if library == "timm":
        return _resolve_timm(bare)
    raise _load_error(
        f"there are no published weights for {name!r}; names begin with torchvision/ or timm/"
    )


def _resolve_torchvision(bare: str) -> PretrainedInfo:
    library = torchvision_networks
    query, _, version = bare.partition(".")
    for name in library.names():
        all_weights = library.pretrained_weights(name)
        # The weights are members of an enumeration with a name like the network's.
        if query not in (name, type(all_weights[0]).__name__):
            continue
        versions = {entry.name: entry for entry in all_weights}
        selected = all_weights[0] if version in ("", "DEFAULT") else versions.get(version)
        if selected is None:
            raise _load_error(f"{query} has no weights {version!r}; it has {', '.join(versions)}")
        return PretrainedInfo(
            architecture=f"torchvision/{name}",
            weights=str(selected),
            normalization=library.normalization_of(name, selected),
            input_size=library.input_size_of(selected),
            num_classes=len(selected.meta["categories"]),
            license=library.license_of(selected),
        )
    raise _load_error(f"torchvision has no network {query!r}{_suggestions(query, library.names())}")


def _resolve_timm(bare: str) -> PretrainedInfo:
    library = timm_networks
    architecture = bare.partition(".")[0]
    if not library.has(architecture):
        raise _load_error(
            f"timm has no network {architecture!r}{_suggestions(architecture, library.names())}"
        )
    known = library.pretrained_cfgs(architecture)
    weights = bare if bare != architecture else next(iter(known), "")
    if weights not in known:
        listed = f"it has {', '.join(known)}" if known else "it has none"
        raise _load_error(f"timm's {architecture} has no published weights {bare!r}; {listed}")
    cfg = known[weights]
    return PretrainedInfo(
        architecture=f"timm/{architecture}",
        weights=weights,
        normalization=library.normalization_of(cfg),
        input_size=int(cfg.input_size[-1]),
        num_classes=int(cfg.num_classes),
        license=library.license_of(cfg),
    )


def _torchvision(
    info: PretrainedInfo, classes: int, channels: int, size: int, cache: Path | None
) -> dict[str, Tensor]:
    from torchvision import models

    name = info.architecture.partition("/")[2]
    options = {"aux_logits": False} if torchvision_networks.logits_only_options(name) else {}
    weights = models.get_weight(info.weights)
    with _hub_dir(cache):
        network = models.get_model(name, weights=weights, progress=False, **options)
    source = network.state_dict()
    if name.startswith("vit_") and size != info.input_size:
        source = models.vision_transformer.interpolate_embeddings(size, network.patch_size, source)
    target = build(info.architecture, num_classes=classes, in_channels=channels, input_size=size)
    return fit_weights(source, target.state_dict(), info.num_classes, classes)


def _timm(
    info: PretrainedInfo, classes: int, channels: int, size: int, cache: Path | None
) -> dict[str, Tensor]:
    network = timm_networks.make(
        info.weights,
        num_classes=classes,
        in_channels=channels,
        input_size=size,
        pretrained=True,
        cache_dir=cache,
    )
    return dict(network.state_dict())


def fit_weights(
    source: Mapping[str, Tensor],
    fresh: Mapping[str, Tensor],
    source_classes: int,
    target_classes: int,
) -> dict[str, Tensor]:
    """Return the weights of ``source`` by the names and shapes of ``fresh``.

    The classifier comes from ``fresh`` if the number of classes differs. Raises ``ValueError`` for
    any other difference of shapes.
    """
    weights: dict[str, Tensor] = {}
    for name, target in fresh.items():
        tensor = source[name]
        if tensor.shape == target.shape:
            weights[name] = tensor
        elif tensor.ndim == 4 and target.shape[1] == 1 and tensor.shape[1] == 3:
            # A gray image is equal in all three channels, so the weights add up.
            weights[name] = tensor.sum(1, keepdim=True)
        elif source_classes != target_classes and (tensor.shape[0], target.shape[0]) == (
            source_classes,
            target_classes,
        ):
            weights[name] = target
        else:
            raise ValueError(
                f"{name} has shape {tuple(tensor.shape)}, expected {tuple(target.shape)}"
            )
    return weights


@contextlib.contextmanager
def _hub_dir(cache: Path | None) -> Iterator[None]:
    before = torch.hub.get_dir()
    if cache is not None:
        torch.hub.set_dir(str(cache))
    try:
        yield
    finally:
        if cache is not None:
            torch.hub.set_dir(before)


@contextlib.contextmanager
def _download_timeout() -> Iterator[None]:
    """Set a socket timeout, because torchvision's downloads have none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_DOWNLOAD_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _normalization_for_channels(normalization: Normalization, channels: int) -> Normalization:
    if channels == len(normalization.mean):
        return normalization
    mean, std = (sum(values) / len(values) for values in (normalization.mean, normalization.std))
    return Normalization(mean=(mean,) * channels, std=(std,) * channels)


def _suggestions(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 3)
    return f"; did you mean {', '.join(close)}?" if close else ""


def _load_error(message: str) -> UserError:
    return UserError("teacher_load_failed", message, hint=_UPLOAD_HINT)
