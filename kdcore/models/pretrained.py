"""Published weights of torchvision and timm, by name: downloaded once, fitted to a network."""

import contextlib
import difflib
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kdcore.models import build, timm_networks, torchvision_networks
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import Normalization

_LIBRARY_ERRORS = (OSError, RuntimeError, ValueError, LookupError)
"""How the libraries say that there is no network, no such file, or another network in it."""
_DOWNLOAD_TIMEOUT_S = 30.0
"""How long a server may say nothing before a download is given up."""
_UPLOAD_HINT = "check the network of the worker, or upload the checkpoint as a model of your own"


class PretrainedInfo(NamedTuple):
    """Weights by name, before a byte of them is fetched."""

    architecture: str
    weights: str
    """The library's name of them, such as ``ResNet50_Weights.IMAGENET1K_V2``."""
    normalization: Normalization
    input_size: int
    num_classes: int
    """0 where they have no classifier."""
    license: str


class PretrainedWeights(NamedTuple):
    """Weights that fit ``build`` with the same arguments."""

    weights: dict[str, Tensor]
    normalization: Normalization
    """Of the network's channels, in the order of the images'."""
    input_size: int
    """Side of the images that the weights were trained on, in pixels."""
    num_classes: int
    """Of the network that they fit."""
    architecture: str
    license: str


def load_pretrained(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    input_size: int | None = None,
    cache: Path | None = None,
) -> PretrainedWeights:
    """Fetch weights and fit them to a network of ``num_classes``, ``in_channels``, ``input_size``.

    ``name`` is as :func:`resolve` takes it; None of the numbers is the weights' own. Another number
    of classes gets a fresh classifier (from torch's global generator); one channel gets the sum of
    the stem's weights over the three. ``cache`` is a folder for the files; None is the libraries'
    own (``TORCH_HOME``, ``HF_HOME``). Raises UserFault ``teacher_load_failed`` when there are no
    such weights, or when they cannot be downloaded or read.
    """
    info = resolve_pretrained(name)
    classes = info.num_classes if num_classes is None else num_classes
    if classes < 1:
        raise _load_error(
            f"the weights {name} have no classifier; choose others, or a number of classes"
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
    )


def resolve_pretrained(name: str) -> PretrainedInfo:
    """What weights are meant, without fetching them.

    ``torchvision`` or ``timm``, a slash or a colon, and an architecture (its default weights), an
    architecture and the name of weights after a dot, or, of torchvision, the full name:
    ``torchvision/resnet50``, ``torchvision:ResNet50_Weights.IMAGENET1K_V2``,
    ``timm/resnet50.a1_in1k``. Raises UserFault ``teacher_load_failed`` with names near it.
    """
    library, _, bare = name.replace(":", "/", 1).partition("/")
    if library == "torchvision":
        return _resolve_torchvision(bare)
    if library == "timm":
        return _resolve_timm(bare)
    raise _load_error(
        f"there are no published weights for {name!r}; torchvision/ and timm/ have them"
    )


def _resolve_torchvision(bare: str) -> PretrainedInfo:
    library = torchvision_networks
    query, _, version = bare.partition(".")
    for name in library.names():
        all_weights = library.pretrained_weights(name)
        # Members of an enumeration of the library, which is named like the network.
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
    """``source`` where it fits; of ``had`` classes, the classifier of ``has`` classes is fresh."""
    weights: dict[str, Tensor] = {}
    for name, target in fresh.items():
        tensor = source[name]
        if tensor.shape == target.shape:
            weights[name] = tensor
        elif tensor.ndim == 4 and target.shape[1] == 1 and tensor.shape[1] == 3:
            # A gray image is the same image in all three channels.
            weights[name] = tensor.sum(1, keepdim=True)
        elif source_classes != target_classes and (tensor.shape[0], target.shape[0]) == (
            source_classes,
            target_classes,
        ):
            weights[name] = target
        else:
            raise ValueError(f"{name} is {tuple(tensor.shape)}, not {tuple(target.shape)}")
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
    """torchvision's downloads have no limit of their own, and would wait for ever."""
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
