"""GraphNetwork: a program of torch.export, run call by call."""

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from typing_extensions import override

from kdcore.models.flops import count_flops
from kdcore.models.programs.archive import ProgramArchive, read_archive
from kdcore.models.programs.graph_plan import GraphPlan, read_plan
from kdcore.models.programs.operator_arguments import EXPORT_HINT, Device, Ref
from kdcore.models.programs.operator_calls import Call
from kdcore.models.programs.program_network import ProgramNetwork, program_error
from kdcore.runtime.errors import UserError

_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
"""What reading JSON of another structure raises."""


class GraphNetwork(ProgramNetwork):
    """A program of torch.export on the device of its tensors."""

    def __init__(self, archive: ProgramArchive, plan: GraphPlan) -> None:
        super().__init__(plan.takes, list(plan.outputs), archive.size_bytes)
        self._plan = plan
        self._attributes: dict[str, str] = {}
        for index, (value, name) in enumerate(plan.tensors.items()):
            attribute = f"tensor_{index}"
            tensor = archive.tensors[name]
            if name in archive.parameters and tensor.is_floating_point():
                setattr(self, attribute, nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(attribute, tensor)
            self._attributes[value] = attribute

    @classmethod
    def from_file(cls, path: Path, name: str) -> Self:
        """Read a file. Nothing in it is run.

        ``name`` is the user's name of it. Raises :class:`UserError`.
        """
        try:
            archive = read_archive(path, name)
            return cls(archive, read_plan(archive.program, name))
        except (UserError, MemoryError):
            raise
        except zipfile.BadZipFile as error:
            raise program_error(
                f"{name} is cut off or damaged", "upload the complete file again"
            ) from error
        except _MALFORMED as error:
            raise program_error(
                f"{name} has another structure than torch.export.save of torch 2.7 and later writes"
            ) from error

    @property
    @override
    def num_params(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.parameters())

    @override
    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Move the tensors. Their memory layout stays, because views in the graph depend on it."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch has no types for it
        for tensor in (*self.parameters(), *self.buffers()):
            tensor.data = tensor.data.contiguous()
        return self

    @override
    def count_macs(self, side: int) -> int:
        """Return the multiply-accumulates for one image of ``side`` pixels."""
        device = next((tensor.device for tensor in self.buffers()), torch.device("cpu"))
        device = next((tensor.device for tensor in self.parameters()), device)
        num_images = self.takes.max_batch or self.takes.min_batch
        images = torch.zeros(num_images, self.takes.channels, side, side, device=device)
        with torch.no_grad(), count_flops(self) as counter:
            self.run(images, (self.logits_name,))
        return int(counter.get_total_flops()) // 2 // num_images

    @override
    def run(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """Return the outputs ``names`` of images (B, C, H, W)."""
        values: dict[str, Any] = {
            value: getattr(self, attribute) for value, attribute in self._attributes.items()
        }
        fixed = {_storage_id(tensor): value for value, tensor in values.items()}
        changes = any(call.writes for call in self._plan.calls)
        values[self._plan.input_name] = images.clone() if changes else images
        for call in self._plan.calls:
            if call.writes:
                self._check_writes(call, values, fixed)
            _run_call(call, values, images.device)
        return [values[self._plan.outputs[name]] for name in names]

    def _check_writes(
        self, call: Call, values: Mapping[str, Any], fixed: Mapping[int, str]
    ) -> None:
        """Raise :class:`UserError` for a call that would change a weight or a constant.

        ``fixed`` has their names in the graph by the ids of their storages.
        """
        for argument in call.writes:
            target = _resolve(call.kwargs.get(argument), values, torch.device("cpu"))
            changed = fixed.get(_storage_id(target)) if isinstance(target, Tensor) else None
            if changed is not None:
                raise program_error(
                    f"the network changes its own tensor {self._plan.tensors[changed][:200]} by "
                    f"the operator {call.function}, so its outputs depend on earlier images",
                    hint=f"assign the new value to a variable of forward, and {EXPORT_HINT}",
                )


def _storage_id(tensor: Tensor) -> int:
    # Tensors of torch.export, which converts programs to ONNX, have no addresses of data.
    return int(tensor.untyped_storage()._cdata)


def _run_call(call: Call, values: dict[str, Any], device: torch.device) -> None:
    args = [_resolve(value, values, device) for value in call.args]
    kwargs = {name: _resolve(value, values, device) for name, value in call.kwargs.items()}
    output = call.function(*args, **kwargs)
    results = [output] if len(call.results) == 1 else output
    for names, result in zip(call.results, results, strict=True):
        if isinstance(names, list):
            values |= dict(zip(names, result, strict=True))
        elif names is not None:
            values[names] = result
    for name in call.unused:
        del values[name]


def _resolve(value: Any, values: Mapping[str, Any], device: torch.device) -> Any:
    if isinstance(value, Ref):
        return values[value.name]
    if isinstance(value, Device):
        return device
    if isinstance(value, list):
        return [_resolve(item, values, device) for item in value]
    return value
