"""The process that answers: without torch, within its limits, decoded as ingestion does."""

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

SCALE = Normalization(mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
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
def ask(path, tmp_path):
    """Saves images, asks in a process, returns exit code and what it said."""

    def call(images, before="", **changes):
        names = []
        for number, image in enumerate(images):
            names.append(str(tmp_path / f"{number}.png"))
            image.save(names[-1])
        request = {"path": str(path), "images": names, "input_size": SIDE, "k": 2, "threads": 1}
        request = PredictRequest.model_validate(request | {"normalization": SCALE} | changes)
        (tmp_path / "request.json").write_text(request.model_dump_json())
        code = f"import sys\n{before}\nfrom kdcore.__main__ import main\n"
        code += "code = main(['predict', 'request.json'])\n"
        code += "sys.exit(99 if {'torch', 'pydantic'} & set(sys.modules) else code)"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    return call


def photo(seed, width=40, height=30):
    shape = (height, width, 3)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def test_it_answers_like_the_network_without_loading_torch(ask, network, tmp_path):
    code, said = ask([photo(1), photo(2)], classes=("a", "b", "c", "d", "e"))
    assert code == ExitCode.DONE
    whole = NormalizedModel(network, SCALE, SIDE)
    for number, answer in enumerate(said["answers"]):
        data = (tmp_path / f"{number}.png").read_bytes()
        pixels = decode(data, gray=False, size=SIDE, max_pixels=10**6)
        with torch.inference_mode():
            shares = whole(torch.from_numpy(pixels.copy())[None]).double().softmax(1)[0]
        best = shares.argsort(descending=True)[:2].tolist()
        assert [each["index"] for each in answer["top"]] == best
        assert [each["class"] for each in answer["top"]] == ["abcde"[index] for index in best]
        told = [each["probability"] for each in answer["top"]]
        assert told == pytest.approx(shares[best].tolist(), abs=1e-5)


def test_pixels_are_prepared_bit_for_bit_as_in_training(network):
    pixels = np.arange(3 * 256, dtype=np.uint8).reshape(3, 16, 16)
    own = NormalizedModel(network, SCALE, SIDE).prepare(torch.from_numpy(pixels)[None])[0].numpy()
    assert np.array_equal(normalize(pixels, SCALE), own)


def test_an_image_that_wants_too_much_memory_is_an_error_of_its_own(ask):
    large = Image.new("RGBA", (5000, 4999))
    limits = {"memory_bytes": 500 << 20}
    code, said = ask([photo(1), large, photo(2)], limits=limits)
    assert code == ExitCode.DONE
    assert [list(answer) for answer in said["answers"]] == [["top"], ["error"], ["top"]]
    assert "memory" in said["answers"][1]["error"]


def test_too_much_processor_time_is_told(ask):
    # As an image or a network would that never ends: an alarm of the kernel, here of our own.
    stuck = (
        "import kdcore.serving.predictor as p\ndef busy(_):\n    while True: pass\np.predict = busy"
    )
    code, said = ask([photo(1)], before=stuck, limits={"cpu_s": 1})
    assert code == ExitCode.USER_ERROR
    assert "processor time" in said["error"]


def test_the_likeliest_come_first_and_the_first_of_equals():
    top = rank_classes(np.array([1.0, 3.0, 3.0, 1000.0], np.float32), 9, None)
    assert [each["index"] for each in top] == [3, 1, 2, 0]
    assert sum(each["probability"] for each in top) == pytest.approx(1)
    assert top[0]["class"] is None
