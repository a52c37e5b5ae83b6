"""What becomes of a data set or a model when the job that prepares it ends."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from store.tables import Dataset, Job, Model, Upload


def finalize_prepared_asset(session: Session, job: Job) -> None:
    """Make the resource that an ended ingestion or verification worked for ready or failed.

    A conversion leaves its model ready, with an ONNX file or with the reason why there is none.
    """
    if job.kind == "ingest" and job.dataset_id:
        _finalize_asset(session, session.get_one(Dataset, job.dataset_id), job)
    if job.kind == "verify" and job.model_id:
        _finalize_asset(session, session.get_one(Model, job.model_id), job)
    if job.kind == "convert" and job.model_id:
        _record_conversion(session.get_one(Model, job.model_id), job)


def _record_conversion(model: Model, job: Job) -> None:
    if job.state == "succeeded":
        onnx_file = job.result or {}
        model.onnx_object_key = onnx_file["object_key"]
        model.onnx_sha256 = onnx_file["sha256"]
        model.onnx_size_bytes = onnx_file["size_bytes"]
    elif job.error and not job.error["retryable"]:
        # What may pass by itself is not kept: the next one who asks has it tried again.
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
            "message": "it was cancelled before its bytes were opened",
            "items": [],
        }
        asset.state = "failed"
        # What may pass by itself says nothing of the bytes.
        if asset.upload_id and job.error and not job.error["retryable"]:
            _discard_upload(session, asset)
    asset.rev += 1


def _discard_upload(session: Session, asset: Dataset | Model) -> None:
    """Bytes that turned out to be bad are not kept, unless another data set or model has them.

    Their rows go with this transaction; the objects go after it, at the latest with the keeper.
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
    return error and {name: error.get(name) for name in ("code", "message", "hint", "items")}
