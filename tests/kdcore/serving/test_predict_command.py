"""The prediction process: no torch, its own limits, images decoded as at ingestion."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from kdcore.data.decode import decode
from kdcore.export import exported_program, onnx
from kdcore.models import build
from kdcore.models.normalized_model import NormalizedModel
from kdcore.protocol.requests import ExitCode, PredictRequest
from kdcore.schema.catalog import Normalization
from kdcore.serving.predictor import normalize, rank_classes

NORMALIZATION = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
SIDE, CLASSES = 16, 5


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build("cifar/resnet8", num_classes=CLASSES).eval()


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(
        onnx.export_onnx(exported_program.export_program(network, (3, SIDE, SIDE)), {})
    )
    return path


@pytest.fixture
def predict_in_process(path, tmp_path):
    """A function that predicts images in a process: returns its exit code and its JSON."""

    def call(images, setup="", stdout=subprocess.PIPE, **changes):
        names = []
        for number, image in enumerate(images):
            names.append(str(tmp_path / f"{number}.png"))
            image.save(names[-1])
        request = {"path": str(path), "images": names, "input_size": SIDE, "k": 2, "threads": 1}
        request = PredictRequest.model_validate(
            request | {"normalization": NORMALIZATION} | changes
        )
        (tmp_path / "request.json").write_text(request.model_dump_json())
        code = f"import sys\n{setup}\nfrom kdcore.__main__ import main\n"
        code += "code = main(['predict', 'request.json'])\n"
        code += "sys.exit(99 if {'torch', 'pydantic'} & set(sys.modules) else code)"
        command = [sys.executable, "-c", code]
        process = subprocess.run(
            command, cwd=tmp_path, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=240
        )
        assert process.stderr == ""
        return process.returncode, json.loads(process.stdout or "null")

    return call


def photo(seed, width=40, height=30):
    shape = (height, width, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def test_predictions_are_the_networks_without_loading_torch(predict_in_process, network, tmp_path):
    code, output = predict_in_process([photo(1), photo(2)], classes=("a", "b", "c", "d", "e"))
    assert code == ExitCode.DONE
    model = NormalizedModel(network, NORMALIZATION, SIDE)
    for number, prediction in enumerate(output["predictions"]):
        data = (tmp_path / f"{number}.png").read_bytes()
        pixels = decode(data, gray=False, size=SIDE, max_pixels=10**6)
        with torch.inference_mode():
            shares = model(torch.from_numpy(pixels.copy())[None]).double().softmax(1)[0]
        best = shares.argsort(descending=True)[:2].tolist()
        assert [entry["index"] for entry in prediction["top"]] == best
        assert [entry["class"] for entry in prediction["top"]] == ["abcde"[index] for index in best]
        probabilities = [entry["probability"] for entry in prediction["top"]]
        assert probabilities == pytest.approx(shares[best].tolist(), abs=1e-5)


def test_sixteen_bits_are_scaled_as_at_ingestion(predict_in_process, network):
    deep = np.random.default_rng(3).integers(0, 4096, (SIDE, SIDE), dtype=np.uint16)
    shallow = ((deep.astype(np.uint32) * 255 + 2047) // 4095).astype(np.uint8)
    images = [Image.fromarray(deep), Image.fromarray(shallow)]
    _, output = predict_in_process(images, sixteen_bit_range=4096, k=CLASSES)
    of_deep, of_shallow = output["predictions"]
    assert of_deep == of_shallow
    _, full_range = predict_in_process(images[:1], k=CLASSES)
    assert full_range["predictions"] != [of_deep]


def test_pixels_are_normalized_bit_for_bit_as_in_training(network):
    pixels = np.arange(3 * 256, dtype=np.uint8).reshape(3, 16, 16)
    expected = (
        NormalizedModel(network, NORMALIZATION, SIDE)
        .prepare(torch.from_numpy(pixels)[None])[0]
        .numpy()
    )
    assert np.array_equal(normalize(pixels, NORMALIZATION), expected)


def test_image_that_exceeds_the_memory_limit_is_reported_alone(predict_in_process):
    large = Image.new("RGBA", (5000, 4999))
    limits = {"memory_bytes": 500 << 20}
    code, output = predict_in_process([photo(1), large, photo(2)], limits=limits)
    assert code == ExitCode.DONE
    assert [list(prediction) for prediction in output["predictions"]] == [
        ["top"],
        ["error"],
        ["top"],
    ]
    assert "memory" in output["predictions"][1]["error"]


def test_exceeded_processor_time_is_reported(predict_in_process):
    # Stands for an image or a network that takes forever.
    endless = (
        "import kdcore.serving.predictor as p\ndef busy(_):\n    while True: pass\np.predict = busy"
    )
    code, output = predict_in_process([photo(1)], setup=endless, limits={"cpu_s": 1})
    assert code == ExitCode.USER_ERROR
    assert "processor time" in output["error"]


def test_full_disk_has_an_exit_code(predict_in_process):
    with open("/dev/full", "wb") as full_disk:
        assert predict_in_process([photo(1)], stdout=full_disk) == (ExitCode.NO_SPACE, None)


def test_classes_are_ranked_by_probability_then_by_index():
    top = rank_classes(np.array([1.0, 3.0, 3.0, 1000.0], np.float32), 9, None)
    assert [entry["index"] for entry in top] == [3, 1, 2, 0]
    assert sum(entry["probability"] for entry in top) == pytest.approx(1)
    assert top[0]["class"] is None
