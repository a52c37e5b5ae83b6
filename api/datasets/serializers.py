"""JSON of a data set."""

from typing import Any

from store.tables import Dataset


def serialize_dataset(dataset: Dataset) -> dict[str, Any]:
    """The body of a ``DatasetOut``."""
    info = dataset.info or {}
    return {
        "id": dataset.id,
        "object": "dataset",
        "name": dataset.name,
        "state": dataset.state,
        "source": dataset.source,
        "split_seed": dataset.split_seed,
        "classes": info.get("classes"),
        "num_classes": len(info["classes"]) if info else None,
        "splits": info.get("splits"),
        "in_channels": info.get("in_channels"),
        "image_size": info.get("image_size"),
        "normalization": info.get("normalization"),
        "digest": info.get("digest"),
        "size_bytes": dataset.size_bytes,
        "error": dataset.error,
        "created_at": dataset.created_at,
        "ready_at": dataset.ready_at,
        "links": {"self": f"/v1/datasets/{dataset.id}"},
    }
