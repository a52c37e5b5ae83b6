"""Files of networks for tests: small programs of torch.export and ONNX, and changes of them."""

import io
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kdcore.models.programs.load import load_program
from kdcore.models.programs.program_network import ProgramNetwork
from kdcore.protocol.requests import VerifyRequest
from kdcore.runtime.errors import UserError
from kdcore.schema.catalog import ProgramFormat
from kdcore.weights.verify import verify
from tests.kdcore.uploads import Workdir

SIDE, CLASSES = 8, 3


class SmallNetwork(nn.Module):
    """Logits of images of 8 pixels, and its two feature maps if ``with_maps``."""

    def __init__(self, *, with_maps: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(6, CLASSES)
        self.with_maps = with_maps

    def forward(self, images: Tensor) -> Any:
        shallow = torch.relu(self.norm(self.first(images)))
        deep = torch.relu(self.second(shallow))
        logits = self.head(deep.mean((2, 3)))
        return {"logits": logits, "maps": {"a": shallow, "b": deep}} if self.with_maps else logits


def program_bytes(
    network: nn.Module,
    batch: int | None = None,
    inputs: tuple[Any, ...] | None = None,
    change: Callable[[ExportedProgram], ExportedProgram] | None = None,
) -> bytes:
    """What ``torch.export.save`` writes; ``batch`` None is a batch of any size."""
    images = torch.zeros(batch or 2, 3, SIDE, SIDE)
    shapes = None if batch or inputs else ({0: Dim("batch", min=1)},)
    program = torch.export.export(network, inputs or (images,), dynamic_shapes=shapes)
    program = change(program) if change else program
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def change_program(
    data: bytes, changes: Mapping[str, Callable[[Any], Any] | bytes], suffix: str = ""
) -> bytes:
    """A program with members replaced by bytes, or by what a function makes of their JSON."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(changed, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            content, change = old.read(name), changes.get(name.partition("/")[2])
            if callable(change):
                content = json.dumps(change(json.loads(content))).encode()
            new.writestr(name, content if change is None or callable(change) else change)
        for name, change in changes.items():
            if f"{root}/{name}" not in old.namelist() and isinstance(change, bytes):
                new.writestr(f"{root}/{name}", change)
    return changed.getvalue()


def onnx_model(
    *nodes: Any, weights: tuple[Any, ...] = (), batch: Any = "batch", **names: Any
) -> Any:
    """A model from images to logits, (batch, 3, 8, 8) to (batch, 3), unless ``nodes`` differ."""
    nodes = nodes or (
        helper.make_node("ReduceMean", ["image"], ["logits"], keepdims=0, axes=[2, 3]),
    )
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, SIDE, SIDE])
    outputs = names.get("outputs", {"logits": [batch, CLASSES]})
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [image],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()],
        list(weights),
    )
    opsets = [helper.make_opsetid("", 13), *names.get("opsets", ())]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def mean_node(output: str = "mean") -> Any:
    """The mean of each channel of the images."""
    return helper.make_node("ReduceMean", ["image"], [output], keepdims=0, axes=[2, 3])


def external_tensor(location: str, length: int = 12) -> Any:
    """A weight (3,) whose values are in another file."""
    tensor = TensorProto(name="bias", data_type=TensorProto.FLOAT, dims=[CLASSES])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(length))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def external_model(location: str) -> bytes:
    """An ONNX file that adds a bias from the file at ``location``."""
    add = helper.make_node("Add", ["mean", "bias"], ["logits"])
    model = onnx_model(mean_node(), add, weights=(external_tensor(location),))
    return bytes(model.SerializeToString())


def zip_files(files: Mapping[str, bytes]) -> bytes:
    """A zip of files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()


class Verified(NamedTuple):
    """What ``verify`` reports of a network, and the network that it wrote."""

    info: dict[str, Any]
    network: ProgramNetwork


def verify_file(folder: Path, data: bytes, **fields: Any) -> Verified:
    """Verify an upload of these bytes, with the fields of a request."""
    workdir = Workdir(folder / f"work-{len(list(folder.iterdir()))}")
    path = workdir.path / "upload"
    path.write_bytes(data)
    request = VerifyRequest(path=str(path), **{"filename": "net.pt2"} | fields)
    info = workdir.call(verify, request)
    (written,) = (workdir.path / "artifacts").iterdir()
    program_format: ProgramFormat = info["architecture"]
    return Verified(info, load_program(written, program_format, info["input_size"]))


def refuse_file(folder: Path, data: bytes, **fields: Any) -> UserError:
    """Assert that an upload of these bytes is refused, and return the error."""
    with pytest.raises(UserError) as error:
        verify_file(folder, data, **fields)
    assert error.value.code == "checkpoint_invalid"
    assert "damaged" not in error.value.message
    return error.value
