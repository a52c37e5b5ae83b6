"""Networks from files, ONNX and torch.export, teach by logits and by the maps that a job names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from kdcore import DistillationResult, distill
from kdcore.runtime.errors import UserError
from tests.kdcore.programs import CLASSES, onnx_model, program_bytes
from tests.kdcore.recipe_runs import QUIET

STUDENT = "cifar/resnet8"
QUICK = {"epochs": 1, "batch_size": 16, "determinism": "strict"}
NONE = {"mean": [0, 0, 0], "std": [1, 1, 1]}


def images_of_classes() -> tuple[Any, Any]:
    """60 images of 16 pixels whose brightest channel is their class."""
    labels = np.arange(60) % CLASSES
    pixels = np.random.default_rng(0).integers(0, 120, (60, 16, 16, 3))
    pixels[np.arange(60), :, :, labels] += 100
    return pixels.astype(np.uint8), labels


class ChannelMeans(nn.Module):
    """The class of an image is its brightest channel, as in the data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"map": self.conv(images).relu(), "logits": self.scale * images.mean((2, 3))}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    contents = {
        "any.pt2": program_bytes(ChannelMeans().eval()),
        "fixed.pt2": program_bytes(ChannelMeans().eval(), batch=7),
        "any.onnx": onnx_model().SerializeToString(),
        "fixed.onnx": onnx_model(batch=7).SerializeToString(),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in contents}


def run(folder: Path, teachers: list[Any], **settings: Any) -> DistillationResult:
    items = [t if isinstance(t, dict) else {"weights": t, "normalization": NONE} for t in teachers]
    settings = {"training": QUICK, "evaluation": {"baseline": False}} | settings
    return distill(
        STUDENT, images_of_classes(), teachers=items, out=folder / "out", **QUIET | settings
    )


@pytest.mark.usefixtures("current_folder")
def test_files_teach_alone_and_together(tmp_path: Path, files: dict[str, Path]) -> None:
    student = {}
    for name, path in files.items():
        result = run(tmp_path / name, [path], method="dkd")
        teacher = result.report.teacher
        assert teacher is not None
        assert teacher.top1 == 100
        is_onnx = path.suffix == ".onnx"
        assert (teacher.num_params, teacher.macs) == ((None, None) if is_onnx else (113, 6912))
        assert teacher.size_bytes == path.stat().st_size or is_onnx
        student[name] = torch.cat([t.flatten() for t in result.load().state_dict().values()])
        assert "teacher" in (result.path / "model_card.md").read_text()
    # Pieces of a fixed batch give the outputs of the free one, up to the last digits.
    for kind in ("pt2", "onnx"):
        assert torch.allclose(student[f"any.{kind}"], student[f"fixed.{kind}"], atol=1e-3)
    ensemble = run(tmp_path / "both", [files["any.pt2"], files["any.onnx"]])
    assert ensemble.report.teacher is not None
    assert ensemble.report.teacher.num_params is None
    assert "parameters" in repr(ensemble)


@pytest.mark.usefixtures("current_folder")
def test_maps_of_named_outputs_are_compared(tmp_path: Path, files: dict[str, Path]) -> None:
    teacher = {"weights": str(files["any.pt2"]), "normalization": NONE}
    with pytest.raises(UserError) as error:
        run(tmp_path / "unnamed", [teacher], method="fitnet")
    assert [item.name for item in error.value.items] == ["/teachers/0/taps"]
    with pytest.raises(UserError) as error:
        run(tmp_path / "wrong", [teacher | {"taps": ["mapp"]}], method="fitnet")
    assert [item.name for item in error.value.items] == ["/teachers/0/taps/0"]
    assert "its maps are: map" in error.value.items[0].detail
    result = run(tmp_path / "named", [teacher | {"taps": ["map"]}], method="fitnet")
    assert any("fitnet" in name for name in result.history)


@pytest.mark.usefixtures("current_folder")
def test_file_is_never_a_student_and_needs_no_classifier(
    tmp_path: Path, files: dict[str, Path]
) -> None:
    path = str(files["any.onnx"])
    for fields, pointers in (
        ({"method": "crd"}, ["/method"]),
        ({"training": QUICK | {"teacher_precision": "int8"}}, ["/training/teacher_precision"]),
    ):
        with pytest.raises(UserError) as error:
            run(tmp_path / "a", [path], **fields)
        assert [item.name for item in error.value.items] == pointers
    students: list[tuple[dict[str, Any], list[str]]] = [
        ({"architecture": "onnx"}, ["/student/architecture"]),
        ({"architecture": STUDENT, "init": path}, ["/student/init"]),
        ({"derive": "teacher"}, ["/student/derive"]),
    ]
    for student, pointers in students:
        with pytest.raises(UserError) as error:
            distill(student, images_of_classes(), teachers=[path], out=tmp_path / "b", **QUIET)
        assert [item.name for item in error.value.items] == pointers, student
