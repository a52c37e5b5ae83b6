"""ingest: an upload or a named source becomes a data set."""

from pathlib import Path
from typing import cast

from kdcore.protocol.requests import IngestRequest
from kdcore.schema.dataset_sources import OnBadImage, OnDuplicates
from store.database import transaction
from store.settings import settings
from store.tables import Dataset, Job
from worker.files.run_uploads import upload_asset
from worker.kinds.base import (
    Inputs,
    KindHandler,
    Publication,
    fetch_upload,
    untrusted_input_limits,
)
from worker.run_result import EngineOutputs


def load_inputs(job: Job, workdir: Path) -> Inputs:
    """The upload's bytes, or the name of a source that the engine has or downloads."""
    with transaction() as session:
        dataset = session.get_one(Dataset, job.dataset_id)
    root = settings().torchvision_root
    request = IngestRequest(
        source="archive" if dataset.upload_id else dataset.source,
        path=fetch_upload(dataset.upload_id, workdir) if dataset.upload_id else None,
        root=str(root) if root else None,
        image_size=job.spec.get("image_size"),
        split_seed=dataset.split_seed,
        on_bad_image=cast(OnBadImage, dataset.on_bad_image),
        on_duplicates=cast(OnDuplicates, dataset.on_duplicates),
        max_decoded_bytes=settings().max_file_bytes,
        limits=untrusted_input_limits(),
    )
    return Inputs(request)


def publish(job: Job, outputs: EngineOutputs, workdir: Path) -> Publication:
    """Fields of the data set's row: its info, and its object key."""
    stored = upload_asset(job, outputs.artifacts[0], workdir, "datasets")
    return Publication({"info": outputs.report} | stored)


HANDLERS = (KindHandler("ingest", load_inputs, publish),)
