"""ProgramNetwork: a network that a file defines, with its inputs and outputs. It is never trained.

Raises of this package are :class:`UserError` ``checkpoint_invalid``.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from typing_extensions import override

from kdcore.runtime.errors import UserError, error_detail

LOGITS = "logits"
"""Name of the output that holds the logits, where a network has several of two dimensions."""
_MAX_OUTPUTS = 100
_MAX_CLASSES = 100_000


class ProgramInput(NamedTuple):
    """The images that a network takes: (B, channels, side, side) float32."""

    channels: int
    side: int | None
    """None for any size."""
    min_batch: int = 1
    max_batch: int | None = None
    """None for batches of any size; equal to ``min_batch`` for a fixed one."""


class ProgramNetwork(nn.Module):
    """A network from a file. ``forward`` maps images (B, C, H, W) to logits (B, num_classes).

    A batch of another size than the network takes is run in pieces, the last padded with zeros.
    Everything is float32.
    """

    def __init__(
        self, takes: ProgramInput, output_names: Sequence[str], size_bytes: int, identity: str = ""
    ) -> None:
        super().__init__()
        self.takes = takes
        self.output_names = tuple(output_names)
        self.size_bytes = size_bytes
        self.identity = identity
        """What decides the outputs beside the file, such as the version of its runtime."""
        self.logits_name = LOGITS
        self.metadata: Mapping[str, str] = {}
        """Texts in the file, by name."""
        if len(self.output_names) > _MAX_OUTPUTS:
            raise program_error(f"the network has more than {_MAX_OUTPUTS} outputs")

    @property
    @abstractmethod
    def num_params(self) -> int | None:
        """Number of parameters; None where the file does not say which tensors are parameters."""

    @abstractmethod
    def run(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Return the outputs ``names`` of a contiguous batch of a size that the network takes."""

    def count_macs(self, side: int) -> int | None:
        """Return the multiply-accumulates for one image of ``side`` pixels; None if unknown."""
        return None

    def stop(self) -> None:
        """Let a call in another thread end, where the runtime can."""

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes) of images (B, C, H, W)."""
        return self.outputs(images, (self.logits_name,))[0]

    def outputs(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Return the outputs ``names`` of images (B, C, H, W), on their device."""
        device = images.device
        images = images.float().contiguous(memory_format=torch.contiguous_format)
        size = self.takes.max_batch or max(len(images), 1)
        with torch.autocast(device.type, enabled=False):
            pieces = [
                self._run_padded(images[start : start + size], names)
                for start in range(0, len(images), size)
            ]
        return [torch.cat(parts).to(device) for parts in zip(*pieces, strict=True)]

    def _run_padded(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        missing = self.takes.min_batch - len(images)
        if missing > 0:
            images = functional.pad(images, (0, 0, 0, 0, 0, 0, 0, missing))
        rows = len(images) - max(missing, 0)
        return [output[:rows] for output in self.run(images, names)]

    def select_logits(self, side: int) -> dict[str, tuple[int, ...]]:
        """Run a blank batch of images of ``side`` pixels, and find the output with the logits.

        Returns the shape of each output for one image. Raises :class:`UserError`, which lists the
        outputs, if none or several could be the logits.
        """
        # Two images, so that a dimension of the batch differs from others of size 1.
        num_images = self.takes.max_batch or max(self.takes.min_batch, 2)
        images = torch.zeros(num_images, self.takes.channels, side, side)
        with torch.no_grad():
            outputs = self.run(images, self.output_names)
        shapes = {
            name: tuple(output.shape)
            for name, output in zip(self.output_names, outputs, strict=True)
        }
        rows = {name: shape[1:] for name, shape in shapes.items() if shape[:1] == (num_images,)}
        candidates = [name for name, shape in rows.items() if len(shape) == 1]
        if LOGITS in candidates:
            candidates = [LOGITS]
        if len(candidates) != 1:
            raise _logits_error(shapes, len(candidates))
        self.logits_name = candidates[0]
        logits = outputs[self.output_names.index(self.logits_name)]
        if not 2 <= logits.shape[1] <= _MAX_CLASSES or not logits.is_floating_point():
            raise program_error(
                f"the output {self.logits_name} has {logits.shape[1]} values of {logits.dtype} for "
                f"each image; logits are floats of 2 to {_MAX_CLASSES} classes"
            )
        if not bool(logits.isfinite().all()):
            raise program_error("the logits of a blank image are infinite or not a number")
        return rows


def program_error(
    message: str, hint: str | None = None, fix_fields: Sequence[str] = (), items: Sequence[str] = ()
) -> UserError:
    """Return the error for a file whose network is not run; ``items`` are names of its parts."""
    details = [error_detail(item, "is not run") for item in items]
    return UserError("checkpoint_invalid", message, hint=hint, items=details, fix_fields=fix_fields)


def _logits_error(shapes: Mapping[str, tuple[int, ...]], num_candidates: int) -> UserError:
    listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
    number = "several outputs" if num_candidates else "no output"
    return UserError(
        "checkpoint_invalid",
        f"the network has {number} of shape (batch, classes), so its logits are unknown; its "
        f"outputs are: {listed}",
        hint=f"name the output with the logits `{LOGITS}`, or return the logits alone",
    )


def check_input_shape(shape: Sequence[int | None], fix: str) -> tuple[int, int | None]:
    """Return the channels and the side of an input (batch, channels, height, width); None is any.

    ``fix`` says how to export the network again. Raises :class:`UserError`.
    """
    listed = ["any" if size is None else size for size in shape]
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise program_error(
            f"the network takes an input of shape {listed}; images of shape (batch, channels, "
            "height, width) with 1 or 3 channels are run",
            hint=fix,
        )
    _, channels, height, width = shape
    if height != width:
        raise program_error(f"the network takes images of shape {listed}, not square ones", fix)
    return channels or 0, height


def first_side(takes: ProgramInput, declared: int | None) -> int:
    """Return the side of the images in pixels: the network's, or the declared one.

    Raises :class:`UserError` where they differ, and for a network for images of any size if none is
    declared.
    """
    if takes.side is not None and declared not in (None, takes.side):
        raise program_error(
            f"the network takes images of {takes.side} pixels only, and input_size is {declared}",
            hint=f"set input_size to {takes.side}, or leave it out",
            fix_fields=("input_size",),
        )
    side = takes.side or declared
    if side is None:
        raise program_error(
            "the network takes images of any size, so the file does not say on which size it was "
            "trained",
            hint="set input_size to the side in pixels of the images of its training",
            fix_fields=("input_size",),
        )
    return side
