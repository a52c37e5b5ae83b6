"""convert: a model's weights become an ONNX file, which predictions run."""

from pathlib import Path

from kdcore.protocol.requests import ConvertRequest, ModelFile
from store.database import transaction
from store.tables import Job, Model
from worker.files.asset_cache import model_file_fields
from worker.files.run_uploads import upload_asset
from worker.kinds.base import Inputs, KindHandler, Publication, untrusted_input_limits
from worker.run_result import EngineOutputs


def load_inputs(job: Job, workdir: Path) -> Inputs:
    """The model's weights, from the cache."""
    with transaction() as session:
        model = session.get_one(Model, job.model_id)
    request = ConvertRequest(
        model=ModelFile(**model_file_fields(model)),
        classes=tuple(model.class_names or ()),
        limits=untrusted_input_limits(),
    )
    return Inputs(request)


def publish(job: Job, outputs: EngineOutputs, workdir: Path) -> Publication:
    """The engine's comparison of both forms, and where the ONNX file is."""
    stored = upload_asset(job, outputs.artifacts[0], workdir, "models")
    return Publication((outputs.report or {}) | stored)


HANDLERS = (KindHandler("convert", load_inputs, publish),)
