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
from kdcore.runtime.errors import UserFault
from kdcore.schema.catalog import Normalisation

_FAILS = (OSError, RuntimeError, ValueError, LookupError)
"""How the libraries say that there is no network, no such file, or another network in it."""
_SILENCE_S = 30.0
"""How long a server may say nothing before a download is given up."""
_UPLOAD = "check the network of the worker, or upload the checkpoint as a model of your own"


class Published(NamedTuple):
    """Weights by name, before a byte of them is fetched."""

    architecture: str
    weights: str
    """The library's name of them, such as ``ResNet50_Weights.IMAGENET1K_V2``."""
    normalisation: Normalisation
    input_size: int
    num_classes: int
    """0 where they have no classifier."""
    licence: str


class Pretrained(NamedTuple):
    """Weights that fit ``build`` with the same arguments."""

    weights: dict[str, Tensor]
    normalisation: Normalisation
    """Of the network's channels, in the order of the images'."""
    input_size: int
    """Side of the images that the weights were trained on, in pixels."""
    num_classes: int
    """Of the network that they fit."""
    architecture: str
    licence: str


def pretrained(
    name: str,
    *,
    num_classes: int | None = None,
    in_channels: int = 3,
    input_size: int | None = None,
    cache: Path | None = None,
) -> Pretrained:
    """Fetch weights and fit them to a network of ``num_classes``, ``in_channels``, ``input_size``.

    ``name`` is as :func:`resolve` takes it; None of the numbers is the weights' own. Another number
    of classes gets a fresh classifier (from torch's global generator); one channel gets the sum of
    the stem's weights over the three. ``cache`` is a folder for the files; None is the libraries'
    own (``TORCH_HOME``, ``HF_HOME``). Raises UserFault ``teacher_load_failed`` when there are no
    such weights, or when they cannot be downloaded or read.
    """
    published = resolve(name)
    classes = published.num_classes if num_classes is None else num_classes
    if classes < 1:
        raise _fault(
            f"the weights {name} have no classifier; choose others, or a number of classes"
        )
    size = published.input_size if input_size is None else input_size
    fetch = _torchvision if published.architecture.startswith("torchvision/") else _timm
    try:
        with _patience():
            weights = fetch(published, classes, in_channels, size, cache)
    except _FAILS as error:
        raise _fault(f"the weights {name} could not be downloaded or read: {error}") from error
    return Pretrained(
        weights=weights,
        normalisation=_of_channels(published.normalisation, in_channels),
        input_size=published.input_size,
        num_classes=classes,
        architecture=published.architecture,
        licence=published.licence,
    )


def resolve(name: str) -> Published:
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
    raise _fault(f"there are no published weights for {name!r}; torchvision/ and timm/ have them")


def _resolve_torchvision(bare: str) -> Published:
    library = torchvision_networks
    wanted, _, version = bare.partition(".")
    for name in library.names():
        all_weights = library.weights(name)
        # Members of an enumeration of the library, which is named like the network.
        if wanted not in (name, type(all_weights[0]).__name__):
            continue
        versions = {each.name: each for each in all_weights}
        found = all_weights[0] if version in ("", "DEFAULT") else versions.get(version)
        if found is None:
            raise _fault(f"{wanted} has no weights {version!r}; it has {', '.join(versions)}")
        return Published(
            architecture=f"torchvision/{name}",
            weights=str(found),
            normalisation=library.normalisation_of(name, found),
            input_size=library.input_size_of(found),
            num_classes=len(found.meta["categories"]),
            licence=library.licence_of(found),
        )
    raise _fault(f"torchvision has no network {wanted!r}{_near(wanted, library.names())}")


def _resolve_timm(bare: str) -> Published:
    library = timm_networks
    architecture = bare.partition(".")[0]
    if not library.has(architecture):
        raise _fault(f"timm has no network {architecture!r}{_near(architecture, library.names())}")
    known = library.weights(architecture)
    weights = bare if bare != architecture else next(iter(known), "")
    if weights not in known:
        listed = f"it has {', '.join(known)}" if known else "it has none"
        raise _fault(f"timm's {architecture} has no published weights {bare!r}; {listed}")
    cfg = known[weights]
    return Published(
        architecture=f"timm/{architecture}",
        weights=weights,
        normalisation=library.normalisation_of(cfg),
        input_size=int(cfg.input_size[-1]),
        num_classes=int(cfg.num_classes),
        licence=library.licence_of(cfg),
    )


def _torchvision(
    published: Published, classes: int, channels: int, size: int, cache: Path | None
) -> dict[str, Tensor]:
    from torchvision import models

    name = published.architecture.partition("/")[2]
    options = {"aux_logits": False} if torchvision_networks.options_of(name) else {}
    weights = models.get_weight(published.weights)
    with _hub(cache):
        network = models.get_model(name, weights=weights, progress=False, **options)
    source = network.state_dict()
    if name.startswith("vit_") and size != published.input_size:
        source = models.vision_transformer.interpolate_embeddings(size, network.patch_size, source)
    wanted = build(
        published.architecture, num_classes=classes, in_channels=channels, input_size=size
    )
    return fitted(source, wanted.state_dict(), published.num_classes, classes)


def _timm(
    published: Published, classes: int, channels: int, size: int, cache: Path | None
) -> dict[str, Tensor]:
    network = timm_networks.make(
        published.weights,
        num_classes=classes,
        in_channels=channels,
        input_size=size,
        pretrained=True,
        cache_dir=cache,
    )
    return dict(network.state_dict())


def fitted(
    source: Mapping[str, Tensor], fresh: Mapping[str, Tensor], had: int, has: int
) -> dict[str, Tensor]:
    """``source`` where it fits; of ``had`` classes, the classifier of ``has`` classes is fresh."""
    weights: dict[str, Tensor] = {}
    for name, wanted in fresh.items():
        found = source[name]
        if found.shape == wanted.shape:
            weights[name] = found
        elif found.ndim == 4 and wanted.shape[1] == 1 and found.shape[1] == 3:
            # A grey image is the same image in all three channels.
            weights[name] = found.sum(1, keepdim=True)
        elif had != has and (found.shape[0], wanted.shape[0]) == (had, has):
            weights[name] = wanted
        else:
            raise ValueError(f"{name} is {tuple(found.shape)}, not {tuple(wanted.shape)}")
    return weights


@contextlib.contextmanager
def _hub(cache: Path | None) -> Iterator[None]:
    before = torch.hub.get_dir()
    if cache is not None:
        torch.hub.set_dir(str(cache))
    try:
        yield
    finally:
        if cache is not None:
            torch.hub.set_dir(before)


@contextlib.contextmanager
def _patience() -> Iterator[None]:
    """torchvision's downloads have no limit of their own, and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _of_channels(normalisation: Normalisation, channels: int) -> Normalisation:
    if channels == len(normalisation.mean):
        return normalisation
    mean, std = (sum(each) / len(each) for each in (normalisation.mean, normalisation.std))
    return Normalisation(mean=(mean,) * channels, std=(std,) * channels)


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, 3)
    return f"; near it: {', '.join(close)}" if close else ""


def _fault(message: str) -> UserFault:
    return UserFault("teacher_load_failed", message, hint=_UPLOAD)
