"""Checkpoint files for tests, and their verification."""

import io
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from kdcore.models import build
from kdcore.protocol.requests import VerifyRequest
from kdcore.runtime.errors import UserError
from kdcore.weights.verify import verify
from tests.kdcore.uploads import Workdir

NAME = "cifar/resnet8"


class Verified(NamedTuple):
    """The result of a verification."""

    info: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def warnings(self) -> str:
        """All warnings."""
        return "\n".join(self.info["warnings"])


def network_state(name: str = NAME, seed: int = 0, **changes: int) -> dict[str, Tensor]:
    """A state dict with weights drawn from ``seed``."""
    torch.manual_seed(seed)
    state: dict[str, Tensor] = build(name, **{"num_classes": 5} | changes).state_dict()
    return state


def torch_bytes(contents: Any, **options: Any) -> bytes:
    """What ``torch.save`` writes."""
    file = io.BytesIO()
    torch.save(contents, file, **options)
    return file.getvalue()


def add_prefix(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict with a prefix before every name."""
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def verify_file(folder: Path, data: Any, **fields: Any) -> Verified:
    """Verify an upload: bytes, or contents for ``torch.save``."""
    workdir = Workdir(folder / f"work-{len(list(folder.iterdir())) if folder.exists() else 0}")
    path = workdir.path / "upload"
    path.write_bytes(data if isinstance(data, bytes) else torch_bytes(data))
    request = {"architecture": NAME, "num_classes": 5, "filename": "best.pt"} | fields
    info = workdir.call(verify, VerifyRequest(path=str(path), **request))
    return Verified(info, load_file(workdir.path / "artifacts" / "model.safetensors"))


def refuse_file(folder: Path, data: Any, **fields: Any) -> UserError:
    """The error of an upload that must be refused."""
    with pytest.raises(UserError) as error:
        verify_file(folder, data, **fields)
    assert error.value.code == "checkpoint_invalid"
    return error.value


def assert_equal_weights(tensors: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """Names and values are equal; counters may differ."""
    assert tensors.keys() == state.keys()
    for name, tensor in state.items():
        assert name.endswith("num_batches_tracked") or torch.equal(tensors[name], tensor), name
