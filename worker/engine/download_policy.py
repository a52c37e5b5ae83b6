"""Which runs may download published weights and sets, and what they need of our environment."""

import os
from typing import Any

from kdcore.protocol.requests import IngestRequest, Request, RunRequest, VerifyRequest
from kdcore.schema.dataset_sources import PREFIX
from store.settings import settings

_WAY_OUT = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_KEPT = (*_WAY_OUT, *(name.lower() for name in _WAY_OUT), "HF_ENDPOINT")
REFUSED: dict[str, Any] = {
    "code": "teacher_load_failed",
    "message": "published weights are not downloaded here: STILLHOUSE_DOWNLOADS is off",
    "hint": "download the checkpoint yourself and upload it as a model of your own",
    "retryable": False,
    "items": [],
}


def needed(request: Request) -> bool:
    """Whether the engine needs weights that torchvision or timm publish."""
    if isinstance(request, VerifyRequest):
        return request.published is not None
    return isinstance(request, RunRequest) and request.job.student.init == "pretrained"


def environment(request: Request) -> dict[str, str]:
    """What the libraries that download go by; without a need, they stay within the machine."""
    sets = isinstance(request, IngestRequest) and request.source.startswith(PREFIX)
    if not needed(request) and not sets:
        return {"HF_HUB_OFFLINE": "1"}
    folder = settings().work_dir / "published"
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return kept | {
        # Runs share it, and it survives them: equal weights are downloaded once.
        "TORCH_HOME": str(folder / "torch"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        # Its downloads know no limit of time.
        "HF_HUB_DISABLE_XET": "1",
    }
