"""The download policy: which engines may use the network, and which variables they get for it."""

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
    "message": "pretrained weights cannot be downloaded: STILLHOUSE_DOWNLOADS is off",
    "hint": "download the checkpoint yourself, and upload it as a model",
    "retryable": False,
    "items": [],
}


def needs_download(request: EngineRequest) -> bool:
    """Whether the engine needs pretrained weights of torchvision or timm."""
    if isinstance(request, VerifyRequest):
        return request.pretrained is not None
    return isinstance(request, RunRequest) and request.job.student.init == "pretrained"


def download_environment(request: EngineRequest) -> dict[str, str]:
    """Variables for libraries that download; they stay offline unless the request needs it."""
    downloads_dataset = isinstance(request, IngestRequest) and request.source.startswith(
        TORCHVISION_PREFIX
    )
    if not needs_download(request) and not downloads_dataset:
        return {"HF_HUB_OFFLINE": "1"}
    folder = settings().work_dir / "downloads"
    passed_variables = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
    return passed_variables | {
        # Runs share this folder, so that equal weights are downloaded once.
        "TORCH_HOME": str(folder / "torch"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        # Downloads by Xet have no time limit.
        "HF_HUB_DISABLE_XET": "1",
    }
