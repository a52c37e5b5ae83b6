"""Which runs may download published weights and sets, and what they need of our environment."""

import os
from typing import Any

from kdcore.protocol.requests import EngineRequest, IngestRequest, RunRequest, VerifyRequest
from kdcore.schema.dataset_sources import TORCHVISION_PREFIX
from store.settings import settings

_NETWORK_VARIABLES = (
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
)
_PASSED_VARIABLES = (
    *_NETWORK_VARIABLES,
    *(name.lower() for name in _NETWORK_VARIABLES),
    "HF_ENDPOINT",
)
DOWNLOADS_DISABLED_ERROR: dict[str, Any] = {
    "code": "teacher_load_failed",
    "message": "published weights are not downloaded here: STILLHOUSE_DOWNLOADS is off",
    "hint": "download the checkpoint yourself and upload it as a model of your own",
    "retryable": False,
    "items": [],
}


def needs_download(request: EngineRequest) -> bool:
    """Whether the engine needs weights that torchvision or timm publish."""
    if isinstance(request, VerifyRequest):
        return request.pretrained is not None
    return isinstance(request, RunRequest) and request.job.student.init == "pretrained"


def download_environment(request: EngineRequest) -> dict[str, str]:
    """What the libraries that download go by; without a need, they stay within the machine."""
    downloads_dataset = isinstance(request, IngestRequest) and request.source.startswith(
        TORCHVISION_PREFIX
    )
    if not needs_download(request) and not downloads_dataset:
        return {"HF_HUB_OFFLINE": "1"}
    folder = settings().work_dir / "published"
    passed_variables = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
    return passed_variables | {
        # Runs share it, and it survives them: equal weights are downloaded once.
        "TORCH_HOME": str(folder / "torch"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        # Its downloads know no limit of time.
        "HF_HUB_DISABLE_XET": "1",
    }
