"""JSON of a data set."""

from typing import Any

from store.jobs.queue_position import preparation_waiting_reason
from store.tables import Dataset

Json = dict[str, Any]


def serialize_dataset(dataset: Dataset) -> dict[str, Any]:
    """The body of a ``DatasetOut``."""
    info = dataset.info or {}
    summary = dataset.ingest_summary or {}
    classes = info.get("classes")
    return {
        "id": dataset.id,
        "object": "dataset",
        "name": dataset.name,
        "state": dataset.state,
        "waiting_reason": preparation_waiting_reason(dataset),
        "source": dataset.source,
        "split_seed": dataset.split_seed,
        "classes": classes,
        "num_classes": len(classes) if isinstance(classes, list) else None,
        "splits": _serialize_splits(info.get("splits"), summary.get("splits") or {}),
        "in_channels": info.get("in_channels"),
        "image_size": info.get("image_size"),
        "normalization": info.get("normalization"),
        "digest": info.get("digest"),
        "size_bytes": dataset.size_bytes,
        "on_bad_image": dataset.on_bad_image,
        "on_duplicates": dataset.on_duplicates,
        "sixteen_bit_range": info.get("sixteen_bit_range"),
        "ignored": summary.get("ignored", []),
        "warnings": summary.get("warnings", []),
        "error": dataset.error,
        "created_at": dataset.created_at,
        "ready_at": dataset.ready_at,
        "links": {"self": f"/v1/datasets/{dataset.id}"},
    }


def _serialize_splits(splits: Json | None, sources: Json) -> Json | None:
    """Splits of the data set with their sources; what was read of a data set that failed."""
    sources = {name: part for name, part in sources.items() if isinstance(part, dict)}
    if splits is None:
        splits = {
            name: {"count": part.get("count"), "per_class": {}} for name, part in sources.items()
        }
    return {
        name: split | {"source": sources.get(name, {}).get("source")}
        for name, split in splits.items()
        if isinstance(split, dict)
    } or None
