"""What an ONNX file says of image files, each decoded as ingestion decodes it."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from kdcore.data.decode import BadImage, decode

_ERROR = 3
"""onnxruntime's log level: its warnings are for those who tune it."""


class Scale(Protocol):
    """Mean and deviation of each channel, of pixels scaled to 0..1."""

    mean: list[float]
    std: list[float]


class Asked(Protocol):
    """A :class:`kdcore.protocol.requests.PredictRequest`, as far as answers need it."""

    path: str
    images: list[str]
    input_size: int
    normalisation: Scale
    classes: list[str] | None
    k: int
    max_pixels: int


def predict(asked: Asked) -> list[dict[str, Any]]:
    """For each image ``{"top": [{"class", "index", "probability"}, …]}``, the likeliest first.

    ``{"error": …}`` for one that cannot be read. Images go through the network one by one: an
    answer does not depend on what else was asked, and memory not on how much.
    """
    session = _session(asked.path)
    return [_answer(session, Path(path), asked) for path in asked.images]


def _session(path: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _answer(session: Any, path: Path, asked: Asked) -> dict[str, Any]:
    try:
        pixels = _pixels(path, asked)
    except BadImage as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "takes more memory to open than it may"}
    (name,) = (each.name for each in session.get_inputs())
    (logits,) = session.run(None, {name: normalised(pixels, asked.normalisation)[None]})
    if not np.isfinite(logits).all():
        return {"error": "gives numbers that are not finite: the network does not know such images"}
    return {"top": ranked(logits[0], asked.k, asked.classes)}


def _pixels(path: Path, asked: Asked) -> npt.NDArray[np.uint8]:
    grey = len(asked.normalisation.mean) == 1
    return decode(path.read_bytes(), grey=grey, size=asked.input_size, max_pixels=asked.max_pixels)


def normalised(pixels: npt.NDArray[np.uint8], scale: Scale) -> npt.NDArray[np.float32]:
    """Pixels (C, H, W) as the network saw them in training: the steps of ``Normalised.prepare``."""
    mean, std = (
        np.asarray(values, np.float32)[:, None, None] for values in (scale.mean, scale.std)
    )
    scaled: npt.NDArray[np.float32] = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return scaled


def ranked(
    logits: npt.NDArray[np.float32], k: int, classes: list[str] | None
) -> list[dict[str, Any]]:
    """The ``k`` likeliest classes of logits (C,), of equal ones the first; all if ``k`` is more."""
    z = logits.astype(np.float64)
    shares = np.exp(z - z.max())
    shares /= shares.sum()
    return [
        {
            "class": classes[index] if classes else None,
            "index": int(index),
            "probability": float(shares[index]),
        }
        for index in np.argsort(-z, kind="stable")[:k]
    ]
