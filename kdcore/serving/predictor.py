"""What an ONNX file says of image files, each decoded as ingestion decodes it."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from kdcore.data.decode import InvalidImageError, decode

_ERROR = 3
"""onnxruntime's log level: its warnings are for those who tune it."""


class ChannelStatistics(Protocol):
    """Mean and deviation of each channel, of pixels scaled to 0..1."""

    mean: list[float]
    std: list[float]


class PredictionInputs(Protocol):
    """A :class:`kdcore.protocol.requests.PredictRequest`, as far as answers need it."""

    path: str
    images: list[str]
    input_size: int
    normalization: ChannelStatistics
    classes: list[str] | None
    k: int
    max_pixels: int


def predict(request: PredictionInputs) -> list[dict[str, Any]]:
    """For each image ``{"top": [{"class", "index", "probability"}, …]}``, the likeliest first.

    ``{"error": …}`` for one that cannot be read. Images go through the network one by one: an
    answer does not depend on what else was asked, and memory not on how much.
    """
    session = _open_session(request.path)
    return [_predict_image(session, Path(path), request) for path in request.images]


def _open_session(path: str) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _predict_image(session: Any, path: Path, request: PredictionInputs) -> dict[str, Any]:
    try:
        pixels = _decode_image(path, request)
    except InvalidImageError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": "takes more memory to open than it may"}
    (name,) = (model_input.name for model_input in session.get_inputs())
    (logits,) = session.run(None, {name: normalize(pixels, request.normalization)[None]})
    if not np.isfinite(logits).all():
        return {"error": "gives numbers that are not finite: the network does not know such images"}
    return {"top": rank_classes(logits[0], request.k, request.classes)}


def _decode_image(path: Path, request: PredictionInputs) -> npt.NDArray[np.uint8]:
    gray = len(request.normalization.mean) == 1
    return decode(
        path.read_bytes(), gray=gray, size=request.input_size, max_pixels=request.max_pixels
    )


def normalize(
    pixels: npt.NDArray[np.uint8], statistics: ChannelStatistics
) -> npt.NDArray[np.float32]:
    """Pixels (C, H, W) as the network saw them in training: the steps of ``Normalized.prepare``."""
    mean, std = (
        np.asarray(values, np.float32)[:, None, None]
        for values in (statistics.mean, statistics.std)
    )
    normalized: npt.NDArray[np.float32] = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return normalized


def rank_classes(
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
