"""Predict classes of image files with an ONNX file; images are decoded as at ingestion."""

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime

from kdcore.data.decode import FULL_RANGE, InvalidImageError, decode

_ERROR = 3
"""onnxruntime's log level for errors; its warnings are about performance."""


class ChannelStatistics(Protocol):
    """Mean and standard deviation of each channel, for pixels scaled to 0..1."""

    mean: list[float]
    std: list[float]


class PredictionInputs(Protocol):
    """The fields of :class:`kdcore.protocol.requests.PredictRequest` that prediction needs."""

    path: str
    images: list[str]
    input_size: int
    normalization: ChannelStatistics
    sixteen_bit_range: int | None
    classes: list[str] | None
    k: int
    max_pixels: int


def predict(request: PredictionInputs) -> list[dict[str, Any]]:
    """Return ``{"top": [{"class", "index", "probability"}, …]}`` for each image, best first.

    An image that cannot be read gets ``{"error": message}``. Images are predicted one by one, so
    that predictions do not depend on each other and memory not on their number.
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
        return {"error": "exceeds the memory limit when it is decoded"}
    (model_input,) = session.get_inputs()
    # A network of a fixed batch, which a user uploaded, gets the image as often as it needs.
    count = model_input.shape[0] if isinstance(model_input.shape[0], int) else 1
    batch = np.repeat(normalize(pixels, request.normalization)[None], count, axis=0)
    (logits,) = session.run(None, {model_input.name: batch})
    if not np.isfinite(logits).all():
        return {
            "error": "gives logits that are not finite; the image may be unlike the training data"
        }
    return {"top": rank_classes(logits[0], request.k, request.classes)}


def _decode_image(path: Path, request: PredictionInputs) -> npt.NDArray[np.uint8]:
    gray = len(request.normalization.mean) == 1
    return decode(
        path.read_bytes(),
        gray=gray,
        size=request.input_size,
        max_pixels=request.max_pixels,
        sixteen_bit_range=request.sixteen_bit_range or FULL_RANGE,
    )


def normalize(
    pixels: npt.NDArray[np.uint8], statistics: ChannelStatistics
) -> npt.NDArray[np.float32]:
    """Normalize pixels (C, H, W) bit for bit like ``NormalizedModel.prepare``."""
    mean, std = (
        np.asarray(values, np.float32)[:, None, None]
        for values in (statistics.mean, statistics.std)
    )
    normalized: npt.NDArray[np.float32] = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return normalized


def rank_classes(
    logits: npt.NDArray[np.float32], k: int, classes: list[str] | None
) -> list[dict[str, Any]]:
    """Return the ``k`` most probable classes of logits (C,); ties are sorted by index."""
    z = logits.astype(np.float64)
    probabilities = np.exp(z - z.max())
    probabilities /= probabilities.sum()
    return [
        {
            "class": classes[index] if classes else None,
            "index": int(index),
            "probability": float(probabilities[index]),
        }
        for index in np.argsort(-z, kind="stable")[:k]
    ]
