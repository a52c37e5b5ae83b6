"""warm: the teacher cache of a job is filled before the job is posted, and nothing is trained."""

from pathlib import Path

from store.tables import Job
from worker.kinds import train
from worker.kinds.base import Inputs, KindHandler, Publication
from worker.run_result import EngineOutputs


def load_inputs(job: Job, workdir: Path) -> Inputs:
    """Load the inputs of the job, and request only that the cache is filled."""
    inputs = train.load_inputs(job, workdir)
    return inputs._replace(request=inputs.request.model_copy(update={"fill_cache_only": True}))


def publish(job: Job, outputs: EngineOutputs, workdir: Path) -> Publication:
    """Nothing: the rows of the cache were written while the engine ran."""
    return Publication({})


HANDLERS = (KindHandler("warm", load_inputs, publish),)
