"""Every exported file computes the logits of the network in PyTorch, or it is not published."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from kdcore.evaluation.report_builder import Evaluator
from kdcore.export.exportable import ExportableNetwork, MeanOfProbabilities, calibration_images
from kdcore.export.exporter import ExportResults, export_all
from kdcore.export.parity import OpenFile, RunBatch, evaluate_export, select_images
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.exports import EXPORTS
from kdcore.weights.safetensors_io import ParityError
from tests.kdcore.export.conftest import (
    CLASSES,
    NORMALIZATION,
    Digits,
    make_exportable,
    train_student,
)

ALL = tuple(EXPORTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def exports(folder: Path, digits: Digits, student: NormalizedModel) -> ExportResults:
    return export_all(folder, ALL, make_exportable(digits, student), digits.evaluator)


def run_onnx(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0])


def normalize_pixels(images: Tensor) -> Tensor:
    """The steps that a user must do, written out instead of calling our own code."""
    return (images.float() / 255 - NORMALIZATION.mean[0]) / NORMALIZATION.std[0]


def test_all_formats_are_published_and_no_other_file_is_left(
    exports: ExportResults, folder: Path
) -> None:
    assert exports.refused == {}
    files = {"student.safetensors", "student.onnx", "student.pt2", "student.int8.onnx"}
    assert {entry.file for entry in exports.evaluations.values()} == files
    assert {path.name for path in folder.iterdir()} == files
    for entry in exports.evaluations.values():
        assert entry.size_bytes == (folder / entry.file).stat().st_size
        assert entry.latency_ms.p95 >= entry.latency_ms.p50 > 0
        assert entry.images_per_s > 0
        assert entry.num_images == 300


@pytest.mark.parametrize("count", [1, 3, 32])
def test_float_formats_take_any_number_of_images(
    exports: ExportResults, folder: Path, digits: Digits, student: NormalizedModel, count: int
) -> None:
    images = digits.evaluator.images[:count]
    with torch.no_grad():
        expected = student(images)
        program = torch.export.load(folder / "student.pt2").module()(normalize_pixels(images))
    torch.testing.assert_close(program, expected, rtol=1e-4, atol=1e-4)
    logits = run_onnx(folder / "student.onnx", normalize_pixels(images))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert run_onnx(folder / "student.int8.onnx", normalize_pixels(images)).shape == (count, 10)


def test_accuracy_and_agreement_are_measured_on_the_file(
    exports: ExportResults, folder: Path, digits: Digits, student: NormalizedModel
) -> None:
    evaluator = digits.evaluator
    expected = evaluator.logits(student).argmax(1)
    assert (expected == evaluator.target).double().mean() > 0.6
    normalized = normalize_pixels(evaluator.images)
    weights = build("cifar/resnet8", num_classes=10, in_channels=1, input_size=8).eval()
    weights.load_state_dict(load_file(folder / "student.safetensors"))
    with torch.no_grad():
        logits = {
            "safetensors": weights(normalized),
            "exported_program": torch.export.load(folder / "student.pt2").module()(normalized),
            "onnx": run_onnx(folder / "student.onnx", normalized),
            "onnx_int8": run_onnx(folder / "student.int8.onnx", normalized),
        }
    assert set(logits) == set(exports.evaluations)
    for kind, entry in exports.evaluations.items():
        predicted = logits[kind].argmax(1)
        # To the last digit: what every user measures.
        assert entry.top1 == 100 * int((predicted == evaluator.target).sum()) / 300
        assert entry.agreement == 100 * int((predicted == expected).sum()) / 300
    assert exports.evaluations["onnx"].agreement == 100
    assert exports.evaluations["onnx_int8"].agreement > 90
    assert exports.evaluations["onnx_int8"].max_rel_difference is None
    assert exports.evaluations["onnx_int8"].size_bytes < exports.evaluations["onnx"].size_bytes / 2


def test_onnx_files_describe_their_input(exports: ExportResults, folder: Path) -> None:
    for name in ("student.onnx", "student.int8.onnx"):
        model = onnx.load(folder / name)
        onnx.checker.check_model(model, full_check=True)
        metadata = {prop.key: prop.value for prop in model.metadata_props}
        assert json.loads(metadata["classes"]) == list(CLASSES)
        assert json.loads(metadata["normalization"]) == NORMALIZATION.model_dump(mode="json")
        assert (metadata["architecture"], metadata["input_size"]) == ("cifar/resnet8", "8")
        (image,), (logits,) = model.graph.input, model.graph.output
        sizes = [
            [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (image, logits)
        ]
        assert (image.name, logits.name) == ("image", "logits")
        assert sizes == [["batch", 1, 8, 8], ["batch", 10]]


def test_int8_weights_are_per_channel_and_cannot_saturate(
    exports: ExportResults, folder: Path
) -> None:
    model = onnx.load(folder / "student.int8.onnx")
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    weights = [array for array in arrays.values() if array.dtype == np.int8 and array.ndim == 4]
    assert len(weights) == 9
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) == 64
    assert any(name.endswith("_scale") and len(a.shape) == 1 for name, a in arrays.items())
    assert {node.op_type for node in model.graph.node} >= {"QuantizeLinear", "DequantizeLinear"}


def test_equal_networks_give_equal_bytes_without_paths_of_the_machine(
    exports: ExportResults, folder: Path, digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    export_all(tmp_path, ALL, make_exportable(digits, copy.deepcopy(student)), digits.evaluator)
    for entry in exports.evaluations.values():
        data = (folder / entry.file).read_bytes()
        assert (tmp_path / entry.file).read_bytes() == data, entry.file
        for text in (b"kdcore", b"site-packages", str(Path.cwd()).encode()):
            assert text not in data, entry.file


class ChangesOnExport(nn.Module):
    """Computes another function when it is exported."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)
        return logits * 1.001 if torch.compiler.is_exporting() else logits


def test_export_with_other_logits_is_not_published(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    exportable = make_exportable(
        digits, NormalizedModel(ChangesOnExport(student.network), NORMALIZATION).eval()
    )
    results = export_all(tmp_path, ("onnx", "exported_program"), exportable, digits.evaluator)
    assert results.evaluations == {}
    assert set(results.refused) == {"onnx", "exported_program"}
    assert "0.001 of the largest" in results.refused["onnx"]
    assert list(tmp_path.iterdir()) == []


def test_weights_that_were_not_evaluated_raise(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    exportable = make_exportable(digits, copy.deepcopy(student))
    next(exportable.network.network.parameters()).view(-1)[3] += 0.5
    with pytest.raises(ParityError):
        export_all(tmp_path, ("safetensors",), exportable, digits.evaluator)
    assert list(tmp_path.iterdir()) == []


class DataDependent(nn.Module):
    """Cannot be exported: its branch depends on the pixels."""

    def forward(self, image: Tensor) -> Tensor:
        rows = image.flatten(1)[:, :10]
        return rows * 2 if float(rows.sum()) > 0 else rows


def test_untraceable_network_still_has_its_weights_exported(digits: Digits, tmp_path: Path) -> None:
    exportable = make_exportable(digits, NormalizedModel(DataDependent(), NORMALIZATION).eval())
    results = export_all(
        tmp_path, ("safetensors", "exported_program"), exportable, digits.evaluator
    )
    assert set(results.evaluations) == {"safetensors"}
    assert results.refused["exported_program"].startswith("this network cannot be exported: ")
    assert results.log_messages() == [f"exported_program: {results.refused['exported_program']}"]


def test_bad_calibration_images_give_a_warning(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    """Scales come from black images alone, so every brighter value is clipped."""
    normal = make_exportable(digits, student)
    black = torch.zeros_like(digits.train[:32])
    exportable = ExportableNetwork(student, normal.logits, normal.speed, black, normal.metadata)
    results = export_all(tmp_path, ("onnx_int8",), exportable, digits.evaluator)
    assert "points below PyTorch's" in str(results.evaluations["onnx_int8"].warning)
    assert results.log_messages() == [f"onnx_int8: {results.evaluations['onnx_int8'].warning}"]


def opener(run_batch: RunBatch) -> OpenFile:
    return lambda _: run_batch


def test_int8_at_chance_level_is_refused(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    exportable = make_exportable(digits, student)
    path = tmp_path / "student.int8.onnx"
    path.write_bytes(b"unread")
    parity_images = select_images(exportable, digits.evaluator)
    files: tuple[tuple[RunBatch, str], ...] = (
        (lambda x: torch.eye(10)[torch.zeros(len(x), dtype=torch.int)], "no better than chance"),
        (lambda x: torch.zeros(len(x), 9), "not (300, 10)"),
        (lambda x: student.network(x) * torch.nan, "no better"),
    )
    for run_batch, reason in files:
        with pytest.raises(ParityError, match=re.escape(reason)):
            evaluate_export(
                *("onnx_int8", path, opener(run_batch)),
                *(exportable, digits.evaluator, parity_images),
            )


def test_int8_needs_training_images(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    normal = make_exportable(digits, student)
    results = export_all(
        tmp_path,
        ("onnx_int8",),
        ExportableNetwork(student, normal.logits, normal.speed),
        digits.evaluator,
    )
    assert "no training images" in results.refused["onnx_int8"]


class CancelledError(Exception):
    pass


def test_cancellation_ends_the_export(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    def cancel() -> None:
        raise CancelledError

    evaluator = digits.evaluator
    cancelled = Evaluator(
        evaluator.images, evaluator.target, evaluator.classes, evaluator.device, cancel
    )
    with pytest.raises(CancelledError):
        export_all(tmp_path, ("onnx",), make_exportable(digits, student), cancelled)


def test_calibration_images_depend_on_the_seed_alone(digits: Digits) -> None:
    first, second = calibration_images(digits.train, 3), calibration_images(digits.train, 3)
    assert first.shape == (256, 1, 8, 8)
    assert torch.equal(first, second)
    assert not torch.equal(first, calibration_images(digits.train, 4))
    assert len(calibration_images(digits.train[:5], 3)) == 5


def test_ensemble_is_one_file_that_computes_the_mean_probabilities(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    other = train_student(digits, 1, steps=1)
    both = NormalizedModel(
        MeanOfProbabilities([student.network, other.network]), NORMALIZATION
    ).eval()
    exportable = make_exportable(digits, both, "ensemble")
    results = export_all(tmp_path, ("onnx", "exported_program"), exportable, digits.evaluator)
    assert {entry.file for entry in results.evaluations.values()} == {
        "ensemble.onnx",
        "ensemble.pt2",
    }
    images = digits.evaluator.images[:50]
    with torch.no_grad():
        mean = (student(images).softmax(1) + other(images).softmax(1)) / 2
    log_probabilities = run_onnx(tmp_path / "ensemble.onnx", normalize_pixels(images))
    torch.testing.assert_close(log_probabilities.exp(), mean, rtol=1e-4, atol=1e-6)
    loaded = torch.export.load(tmp_path / "ensemble.pt2").module()(normalize_pixels(images))
    torch.testing.assert_close(loaded.exp(), mean, rtol=1e-4, atol=1e-6)
