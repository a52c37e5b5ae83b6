"""Data sets and models as files on this machine."""

from typing import Any

from store.tables import Dataset, Model
from worker.files import asset_cache


def fetch_asset(asset: Dataset | Model) -> str:
    """Path of its bytes in the cache. Raises ``FileNotFoundError`` where it has none."""
    if asset.object_key is None or asset.sha256 is None:
        raise FileNotFoundError(f"{asset.id} has no bytes in the object store")
    return str(asset_cache.fetch_cached(asset.object_key, asset.sha256))


def model_file_fields(model: Model) -> dict[str, Any]:
    """The fields of :class:`kdcore.protocol.requests.ModelFile`."""
    return {
        "path": fetch_asset(model),
        "sha256": model.sha256,
        "architecture": model.architecture,
        "num_classes": model.num_classes,
        "in_channels": model.in_channels,
        "input_size": model.input_size,
        "normalization": model.normalization,
    }
