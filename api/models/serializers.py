"""JSON of a model."""

from typing import Any

from store.jobs.queue_position import preparation_waiting_reason
from store.tables import Model

_FIELDS = (
    *("id", "name", "state", "source", "architecture", "num_classes", "in_channels", "input_size"),
    *("normalization", "sixteen_bit_range", "class_names", "license", "labels", "num_params"),
    "outputs",
    *("reported_top1", "size_bytes", "sha256", "error", "warnings", "created_at", "ready_at"),
)


def serialize_model(model: Model) -> dict[str, Any]:
    """The body of a ``ModelOut``."""
    self_url = f"/v1/models/{model.id}"
    return {
        "object": "model",
        **{name: getattr(model, name) for name in _FIELDS},
        "waiting_reason": preparation_waiting_reason(model),
        "links": {
            "self": self_url,
            "weights": f"{self_url}/weights",
            "predict": f"{self_url}/predict",
        },
    }
