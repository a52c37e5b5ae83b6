"""Networks that a Python caller passes as objects: check one, measure it, and name it.

A registered network exists in this process only. Its name stands for the object wherever a recipe
or a file names an architecture: ``module/<class>-<digest>``.
"""

import copy
import hashlib
import re
from collections.abc import Iterator
from types import CodeType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdcore.models import flops
from kdcore.models.feature_hooks import find_hook_points, pooled_features
from kdcore.models.registry import ENTRIES, MODULE_PREFIX, ArchitectureEntry
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import Architecture, Normalization, Tap, add_architecture

_PROBE_IMAGES = 2
_PLAIN_TYPES = (bool, int, float, str, bytes, tuple, type(None))
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_WRAPPERS = ("module", "_orig_mod")
"""Where DataParallel, DistributedDataParallel and torch.compile keep the network."""


class ImageShape(NamedTuple):
    """Images of a data set, for which a network is tried."""

    in_channels: int
    size: int


class UserModule(NamedTuple):
    """A network that was checked, with its name and its shape."""

    name: str
    network: nn.Module
    """A copy on the CPU, float32, in eval mode."""
    num_classes: int
    in_channels: int


def register_module(module: nn.Module, images: ImageShape) -> UserModule:
    """Copy a network, run it on blank images and make it known under its name.

    ``images`` are those of the data set; a network that takes 3 channels or 1 instead is accepted,
    because a job can convert channels. Raises ``UserError`` ``student_incompatible`` if the object
    cannot be copied, run, or does not return logits (B, C).
    """
    network = _copy_network(unwrap(module))
    in_channels, logits = _run_on_blank_images(network, images)
    name = f"{MODULE_PREFIX}{type(network).__name__}-{_digest(network)}"
    user_module = UserModule(name, network, logits.shape[1], in_channels)
    ENTRIES[name] = _entry(user_module)
    add_architecture(_measure(user_module, images.size))
    return user_module


class ReorderedClasses(nn.Module):
    """A network whose logits are those of ``network`` in the order of ``class_map``.

    ``num_classes`` is the number of names of its classes.
    """

    def __init__(self, network: nn.Module, class_map: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.class_map = class_map
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, len(class_map)) of images (B, C, H, W)."""
        logits: Tensor = self.network(images)
        if logits.shape[1] != self.num_classes:
            raise ValueError(
                f"class_names has {self.num_classes} names, and the network {logits.shape[1]} "
                "outputs"
            )
        return logits[:, list(self.class_map)]


def unwrap(module: nn.Module) -> nn.Module:
    """Return the network inside DataParallel, DistributedDataParallel or a compiled module."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while isinstance(module, parallel) or type(module).__name__ == "OptimizedModule":
        inner = next(getattr(module, name) for name in _WRAPPERS if hasattr(module, name))
        module = inner
    return module


def _copy_network(module: nn.Module) -> nn.Module:
    if isinstance(module, torch.jit.ScriptModule):
        raise _error(module, "is TorchScript; pass the nn.Module from which it was made")
    lazy = (nn.UninitializedParameter, nn.UninitializedBuffer)
    tensors = [*module.parameters(), *module.buffers()]
    if any(isinstance(tensor, lazy) for tensor in tensors):
        raise _error(module, "has lazy layers without weights; run it on one batch first")
    if any(tensor.is_meta for tensor in tensors):
        raise _error(module, "has weights on the meta device; load real weights first")
    try:
        network = copy.deepcopy(module)
    except Exception as error:  # a module of a user raises any type
        raise _error(module, f"cannot be copied: {error}") from error
    return network.cpu().float().eval().requires_grad_(requires_grad=True)


def _run_on_blank_images(network: nn.Module, images: ImageShape) -> tuple[int, Tensor]:
    problems = []
    for channels in dict.fromkeys((images.in_channels, 3, 1)):
        blank = torch.zeros(_PROBE_IMAGES, channels, images.size, images.size)
        try:
            with torch.no_grad():
                logits = network(blank)
        except Exception as error:  # noqa: BLE001 - a module of a user raises any type
            problems.append(f"{tuple(blank.shape)}: {_first_line(error)}")
            continue
        return channels, _check_logits(network, logits)
    raise _error(network, f"does not run on images (B, C, H, W): {'; '.join(problems)}")


def _check_logits(network: nn.Module, logits: Any) -> Tensor:
    right = f"logits of shape ({_PROBE_IMAGES}, num_classes) for {_PROBE_IMAGES} images"
    if not isinstance(logits, Tensor):
        raise _error(
            network,
            f"returns {type(logits).__name__}; {right} are expected: wrap it in a module whose "
            "forward returns the logits",
        )
    if logits.ndim != 2 or len(logits) != _PROBE_IMAGES or logits.shape[1] < 2:
        raise _error(network, f"returns a tensor of shape {tuple(logits.shape)}; {right}")
    return logits


def _entry(user_module: UserModule) -> ArchitectureEntry:
    def make(num_classes: int, in_channels: int) -> nn.Module:
        expected = (user_module.num_classes, user_module.in_channels)
        if (num_classes, in_channels) != expected:
            raise _error(
                user_module.network,
                f"has {expected[0]} outputs for images of {expected[1]} channels; the data set "
                f"has {num_classes} classes and the images {in_channels} channels",
            )
        network = copy.deepcopy(user_module.network)
        _draw_weights(network)
        return network

    return ArchitectureEntry(make, "module", min_input_size=1, paper="")


def _draw_weights(network: nn.Module) -> None:
    """Draw new weights from torch's global generator, layer by layer.

    Layers without ``reset_parameters`` keep the weights of the object.
    """
    for layer in network.modules():
        reset = getattr(layer, "reset_parameters", None)
        if callable(reset):
            reset()


def _measure(user_module: UserModule, size: int) -> Architecture:
    network, channels = copy.deepcopy(user_module.network), user_module.in_channels
    try:
        points = find_hook_points(network, torch.zeros(1, channels, size, size))
        macs = flops.macs(network, channels, size)
    except Exception as error:  # a module of a user raises any type
        raise _error(network, f"cannot be traced: {_first_line(error)}") from error
    return Architecture(
        name=user_module.name,
        family="module",
        num_params=flops.num_params(network),
        macs=macs,
        input_size=size,
        min_input_size=1,
        in_channels=channels,
        num_classes=user_module.num_classes,
        pooled_features=pooled_features(network, points),
        taps=tuple(
            Tap(path=path, shape=shape)
            for path, shape in zip(points.maps, points.shapes, strict=True)
        ),
        normalization=Normalization(mean=(0.0,) * channels, std=(1.0,) * channels),
        license="unknown",
        paper=None,
    )


def _digest(network: nn.Module) -> str:
    """Digest of all that decides what the network computes: layers, settings, code, weights."""
    digest = hashlib.sha256(_ADDRESS.sub("", repr(network)).encode())
    for path, layer in network.named_modules():
        if not type(layer).__module__.startswith("torch."):
            digest.update(f"{path} {sorted(_plain_attributes(layer))}".encode())
            for part in _code_parts(type(layer).forward.__code__):
                digest.update(repr(part).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def _plain_attributes(layer: nn.Module) -> Iterator[str]:
    for name, value in vars(layer).items():
        if isinstance(value, _PLAIN_TYPES) and name != "training":
            yield f"{name}={value!r}"


def _code_parts(code: CodeType) -> Iterator[object]:
    yield from (code.co_code, code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_parts(constant)
        elif isinstance(constant, frozenset):  # its order differs between processes
            yield sorted(map(repr, constant))
        else:
            yield constant


def _error(module: nn.Module, fault: str) -> UserError:
    return UserError("student_incompatible", f"the network {type(module).__name__} {fault}")


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
