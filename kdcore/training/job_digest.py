"""The digest of a job: a checkpoint belongs to the job whose digest it holds."""

import hashlib
import json
from typing import Any

from kdcore.protocol.requests import DESCRIPTIVE_FIELDS, RunRequest
from kdcore.schema.old_spelling import old_spelling

_EXCLUDED_FIELDS = {
    *("name", "labels", "priority", "limits", "accept", "dataset", "teachers", "exports"),
    *("model", "from_", "preset"),
}
"""Fields of a job that do not change its numbers, and ids of files whose digests are hashed."""
_HASHED_AS = {"normalization": old_spelling("normalization"), "teacher_cache_logits": "kept_logits"}
"""Former names of fields: stored jobs, whose checkpoints have the digest, were hashed with them."""


def compute_job_digest(request: RunRequest) -> str:
    """SHA-256 of everything that decides the numbers of a job.

    Fields with default values are left out, so that a field which a later version adds does not
    change the digest of stored jobs.
    """
    job = request.job.model_dump(mode="json", exclude=_EXCLUDED_FIELDS, exclude_defaults=True)
    if request.init is not None and request.init_is_path:
        # Another path to the same weights changes nothing. Folders of earlier runs have digests of
        # the content in this form.
        job["student"]["init"] = f"mdl_{request.init.sha256[:16]}"
    parts = {
        "job": job,
        "dataset": request.dataset.sha256,
        "teachers": [
            teacher.model_dump(mode="json", exclude={"path", *DESCRIPTIVE_FIELDS})
            for teacher in request.teachers
        ],
        "init": request.init.sha256 if request.init else None,
        "continued": request.continue_from.sha256 if request.continue_from else None,
    }
    return hashlib.sha256(
        json.dumps(_with_hashed_names(parts), sort_keys=True).encode()
    ).hexdigest()


def _with_hashed_names(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            _HASHED_AS.get(name, name): _with_hashed_names(part) for name, part in value.items()
        }
    return [_with_hashed_names(part) for part in value] if isinstance(value, list) else value
