"""Prepared assets: a data set or model becomes ready or failed with the job that prepares it."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from kdcore.schema.job_kinds import JOB_KINDS, PreparedAsset
from store.settings import settings
from store.tables import Dataset, Job, Model, Upload

_PUBLIC_FIELDS = ("code", "message", "hint", "items", "num_items")


def finalize_prepared_asset(session: Session, job: Job) -> None:
    """Make the data set or model that an ended job prepares ready or failed.

    A conversion leaves its model ready, with an ONNX file or with the reason why there is none.
    """
    prepares = JOB_KINDS[job.kind].prepares
    asset = _prepared_asset(session, job)
    if asset is not None and prepares is not None:
        _FINALIZERS[prepares](session, asset, job)


def opened_upload(session: Session, job: Job) -> Upload | None:
    """The upload whose bytes the job opens, if it opens one."""
    asset = _prepared_asset(session, job)
    if asset is None or JOB_KINDS[job.kind].prepares == "onnx" or asset.upload_id is None:
        return None
    return session.get(Upload, asset.upload_id)


def _prepared_asset(session: Session, job: Job) -> Dataset | Model | None:
    prepares = JOB_KINDS[job.kind].prepares
    if prepares is None:
        return None
    if prepares == "dataset":
        return session.get_one(Dataset, job.dataset_id) if job.dataset_id else None
    return session.get_one(Model, job.model_id) if job.model_id else None


def _record_conversion(_: Session, model: Any, job: Job) -> None:
    if job.state == "succeeded":
        onnx_file = job.result or {}
        model.onnx_object_key = onnx_file["object_key"]
        model.onnx_sha256 = onnx_file["sha256"]
        model.onnx_size_bytes = onnx_file["size_bytes"]
    elif job.error and not job.error["retryable"]:
        # A retryable error is not stored: the next prediction starts another conversion.
        model.onnx_error = _public_error(job.error)


def _finalize_asset(session: Session, asset: Dataset | Model, job: Job) -> None:
    if job.state == "succeeded":
        for name, value in (job.result or {}).items():
            setattr(asset, name, value)
        asset.ready_at = func.clock_timestamp()
        asset.state = "ready"
    else:
        asset.error = _public_error(job.error) or {
            "code": "cancelled",
            "message": "the preparation was cancelled",
            "items": [],
            "num_items": 0,
        }
        asset.state = "failed"
        # A retryable error does not mean that the bytes are invalid.
        if asset.upload_id and job.error and not job.error["retryable"]:
            if job.error.get("fix_fields"):
                _extend_upload(session, asset)
            else:
                _discard_upload(session, asset)
    asset.rev += 1


def _extend_upload(session: Session, asset: Dataset | Model) -> None:
    """Let the upload of a refusal that other request fields could mend stay for one more term."""
    upload = session.get(Upload, asset.upload_id, with_for_update=True)
    if upload is not None and upload.state == "complete":
        upload.expires_at = func.now() + timedelta(seconds=settings().upload_expiry_s)


def _discard_upload(session: Session, asset: Dataset | Model) -> None:
    """Discard an upload with invalid bytes, unless another data set or model uses it.

    This transaction deletes the rows of its parts. The caller deletes the objects after the commit;
    garbage collection deletes what the caller leaves.
    """
    for table in (Dataset, Model):
        others = select(table.id).where(
            table.upload_id == asset.upload_id, table.id != asset.id, table.state != "failed"
        )
        if session.scalar(others.limit(1)) is not None:
            return
    upload = session.get(Upload, asset.upload_id)
    if upload is not None:
        upload.parts.clear()
        upload.state = "discarded"


def _public_error(error: dict[str, Any] | None) -> dict[str, Any] | None:
    if not error:
        return None
    fields = {name: error.get(name) for name in _PUBLIC_FIELDS}
    return fields | {"fix_fields": error.get("fix_fields", [])}


_FINALIZERS: dict[PreparedAsset, Callable[[Session, Any, Job], None]] = {
    "dataset": _finalize_asset,
    "model": _finalize_asset,
    "onnx": _record_conversion,
}
