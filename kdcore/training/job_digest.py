"""Which job a checkpoint belongs to."""

import hashlib
import json

from kdcore.protocol.requests import RunRequest

_EXCLUDED_FIELDS = {
    *("name", "labels", "priority", "limits", "accept", "dataset", "teachers", "exports"),
    *("model", "from_", "preset"),
}
"""Parts of a job that do not change its numbers, and ids of files whose bytes are counted."""


def compute_job_digest(request: RunRequest) -> str:
    """Of all that decides the numbers of a job: a checkpoint serves the job of its digest."""
    # Without defaults, so that a field which a later version adds leaves the digest as it was.
    job = request.job.model_dump(mode="json", exclude=_EXCLUDED_FIELDS, exclude_defaults=True)
    parts = {
        "job": job,
        "dataset": request.dataset.sha256,
        "teachers": [
            teacher.model_dump(mode="json", exclude={"path"}) for teacher in request.teachers
        ],
        "init": request.init.sha256 if request.init else None,
        "continued": request.continue_from.sha256 if request.continue_from else None,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
