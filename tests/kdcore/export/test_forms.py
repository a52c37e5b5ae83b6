"""Every form of a student: runs by itself, answers like PyTorch, or is not there."""

import copy
import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from kdcore.evaluation.report_builder import Evaluator
from kdcore.export.ensemble_network import MeanOfProbabilities
from kdcore.export.exportable import ExportableNetwork, calibration_images
from kdcore.export.exporter import ExportResults, export_all
from kdcore.export.parity import evaluate_export, select_images
from kdcore.export.runners import ExportRunner
from kdcore.models.normalized_model import NormalizedModel
from kdcore.schema.exports import EXPORTS
from kdcore.weights.safetensors_io import ParityError
from tests.kdcore.export.conftest import CLASSES, NORMALIZATION, Digits, source_of, taught

ALL = tuple(EXPORTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def made(folder: Path, digits: Digits, student: NormalizedModel) -> ExportResults:
    return export_all(folder, ALL, source_of(digits, student), digits.bench)


def run_onnx(path: Path, images: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0])


def normalized(images: Tensor) -> Tensor:
    """Written out here, so that what a user must do is tested and not our own preparation."""
    return (images.float() / 255 - NORMALIZATION.mean[0]) / NORMALIZATION.std[0]


def test_all_forms_are_published_and_nothing_else_is_left(
    made: ExportResults, folder: Path
) -> None:
    assert made.refused == {}
    files = {"student.safetensors", "student.onnx", "student.pt2", "student.int8.onnx"}
    assert {one.file for one in made.evaluations.values()} == files
    assert {path.name for path in folder.iterdir()} == files
    for one in made.evaluations.values():
        assert one.size_bytes == (folder / one.file).stat().st_size
        assert one.latency_ms.p95 >= one.latency_ms.p50 > 0
        assert one.images_per_s > 0
        assert one.num_images == 300


@pytest.mark.parametrize("count", [1, 3, 32])
def test_float_forms_take_any_number_of_images(
    made: ExportResults, folder: Path, digits: Digits, student: NormalizedModel, count: int
) -> None:
    images = digits.bench.images[:count]
    with torch.no_grad():
        expected = student(images)
        program = torch.export.load(folder / "student.pt2").module()(normalized(images))
    torch.testing.assert_close(program, expected, rtol=1e-4, atol=1e-4)
    found = run_onnx(folder / "student.onnx", normalized(images))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert run_onnx(folder / "student.int8.onnx", normalized(images)).shape == (count, 10)


def test_accuracy_and_agreement_are_the_files_own(
    made: ExportResults, folder: Path, digits: Digits, student: NormalizedModel
) -> None:
    bench = digits.bench
    own = bench.logits(student).argmax(1)
    assert (own == bench.target).double().mean() > 0.6
    for kind in ("onnx", "onnx_int8"):
        one = made.evaluations[kind]
        named = run_onnx(folder / one.file, normalized(bench.images)).argmax(1)
        assert one.top1 == pytest.approx(100 * (named == bench.target).double().mean().item())
        assert one.agreement == pytest.approx(100 * (named == own).double().mean().item())
    assert made.evaluations["onnx"].agreement == 100
    assert made.evaluations["onnx_int8"].agreement > 90
    assert made.evaluations["onnx_int8"].max_rel_difference is None
    assert made.evaluations["onnx_int8"].size_bytes < made.evaluations["onnx"].size_bytes / 2


def test_the_onnx_files_say_what_to_feed_them(made: ExportResults, folder: Path) -> None:
    for name in ("student.onnx", "student.int8.onnx"):
        model = onnx.load(folder / name)
        onnx.checker.check_model(model, full_check=True)
        told = {prop.key: prop.value for prop in model.metadata_props}
        assert json.loads(told["classes"]) == list(CLASSES)
        assert json.loads(told["normalization"]) == NORMALIZATION.model_dump(mode="json")
        assert (told["architecture"], told["input_size"]) == ("cifar/resnet8", "8")
        (image,), (logits,) = model.graph.input, model.graph.output
        sizes = [
            [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
            for v in (image, logits)
        ]
        assert (image.name, logits.name) == ("image", "logits")
        assert sizes == [["batch", 1, 8, 8], ["batch", 10]]


def test_eight_bits_are_per_channel_and_cannot_saturate(made: ExportResults, folder: Path) -> None:
    model = onnx.load(folder / "student.int8.onnx")
    arrays = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    weights = [array for array in arrays.values() if array.dtype == np.int8 and array.ndim == 4]
    assert len(weights) == 9
    assert max(int(np.abs(array.astype(int)).max()) for array in weights) == 64
    assert any(name.endswith("_scale") and len(a.shape) == 1 for name, a in arrays.items())
    assert {node.op_type for node in model.graph.node} >= {"QuantizeLinear", "DequantizeLinear"}


def test_equal_networks_give_equal_bytes_that_tell_nothing_of_the_machine(
    made: ExportResults, folder: Path, digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    export_all(tmp_path, ALL, source_of(digits, copy.deepcopy(student)), digits.bench)
    for one in made.evaluations.values():
        data = (folder / one.file).read_bytes()
        assert (tmp_path / one.file).read_bytes() == data, one.file
        for told in (b"kdcore", b"site-packages", str(Path.cwd()).encode()):
            assert told not in data, one.file


class Shifty(nn.Module):
    """Another function when it is exported than when it runs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image)
        return logits * 1.001 if torch.compiler.is_exporting() else logits


def test_a_form_that_answers_otherwise_is_not_published(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    source = source_of(digits, NormalizedModel(Shifty(student.network), NORMALIZATION).eval())
    found = export_all(tmp_path, ("onnx", "exported_program"), source, digits.bench)
    assert found.evaluations == {}
    assert set(found.refused) == {"onnx", "exported_program"}
    assert "0.001 of the largest" in found.refused["onnx"]
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_the_evaluated_ones_stop_everything(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    source = source_of(digits, copy.deepcopy(student))
    next(source.network.network.parameters()).view(-1)[3] += 0.5
    with pytest.raises(ParityError):
        export_all(tmp_path, ("safetensors",), source, digits.bench)
    assert list(tmp_path.iterdir()) == []


class Branching(nn.Module):
    """Cannot be exported: which way it goes depends on the pixels."""

    def forward(self, image: Tensor) -> Tensor:
        rows = image.flatten(1)[:, :10]
        return rows * 2 if float(rows.sum()) > 0 else rows


def test_a_network_that_cannot_be_traced_is_still_delivered(digits: Digits, tmp_path: Path) -> None:
    source = source_of(digits, NormalizedModel(Branching(), NORMALIZATION).eval())
    found = export_all(tmp_path, ("safetensors", "exported_program"), source, digits.bench)
    assert set(found.evaluations) == {"safetensors"}
    assert found.refused["exported_program"].startswith("it cannot be made of this network: ")
    assert found.log_messages() == [f"exported_program: {found.refused['exported_program']}"]


def test_eight_bits_calibrated_on_nothing_like_the_data_come_with_a_warning(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    """Scales from black images alone: everything brighter is cut off."""
    good = source_of(digits, student)
    black = torch.zeros_like(digits.train[:32])
    source = ExportableNetwork(student, good.logits, good.speed, black, good.metadata)
    found = export_all(tmp_path, ("onnx_int8",), source, digits.bench)
    assert "points below PyTorch's" in str(found.evaluations["onnx_int8"].warning)
    assert found.log_messages() == [f"onnx_int8: {found.evaluations['onnx_int8'].warning}"]


def test_eight_bits_at_chance_are_refused(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    source = source_of(digits, student)
    path = tmp_path / "student.int8.onnx"
    path.write_bytes(b"unread")
    seen = select_images(source, digits.bench)
    always = ExportRunner(*[lambda images: torch.eye(10)[torch.zeros(len(images), dtype=int)]] * 2)
    for runner, reason in (
        (always, "no better than chance"),
        (ExportRunner(*[lambda images: torch.zeros(len(images), 9)] * 2), "not (300, 10)"),
        (ExportRunner(*[lambda images: student.network(images) * torch.nan] * 2), "no better"),
    ):
        with pytest.raises(ParityError, match=re.escape(reason)):
            evaluate_export("onnx_int8", path, runner, source, digits.bench, seen)


def test_eight_bits_need_training_images(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    good = source_of(digits, student)
    found = export_all(
        tmp_path, ("onnx_int8",), ExportableNetwork(student, good.logits, good.speed), digits.bench
    )
    assert "no training images" in found.refused["onnx_int8"]


class Stopped(Exception):  # noqa: N818  # as the engine's own: no error
    pass


def test_a_stop_request_goes_through(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    def stop() -> None:
        raise Stopped

    bench = digits.bench
    stopping = Evaluator(bench.images, bench.target, bench.classes, bench.device, stop)
    with pytest.raises(Stopped):
        export_all(tmp_path, ("onnx",), source_of(digits, student), stopping)


def test_calibration_images_are_a_seeded_choice(digits: Digits) -> None:
    one, again = calibration_images(digits.train, 3), calibration_images(digits.train, 3)
    assert one.shape == (256, 1, 8, 8)
    assert torch.equal(one, again)
    assert not torch.equal(one, calibration_images(digits.train, 4))
    assert len(calibration_images(digits.train[:5], 3)) == 5


def test_an_ensemble_is_one_file_that_gives_the_mean_of_the_probabilities(
    digits: Digits, student: NormalizedModel, tmp_path: Path
) -> None:
    other = taught(digits, 1, steps=1)
    both = NormalizedModel(
        MeanOfProbabilities([student.network, other.network]), NORMALIZATION
    ).eval()
    source = source_of(digits, both, "ensemble")
    found = export_all(tmp_path, ("onnx", "exported_program"), source, digits.bench)
    assert {one.file for one in found.evaluations.values()} == {"ensemble.onnx", "ensemble.pt2"}
    images = digits.bench.images[:50]
    with torch.no_grad():
        mean = (student(images).softmax(1) + other(images).softmax(1)) / 2
    given = run_onnx(tmp_path / "ensemble.onnx", normalized(images))
    torch.testing.assert_close(given.exp(), mean, rtol=1e-4, atol=1e-6)
    loaded = torch.export.load(tmp_path / "ensemble.pt2").module()(normalized(images))
    torch.testing.assert_close(loaded.exp(), mean, rtol=1e-4, atol=1e-6)
