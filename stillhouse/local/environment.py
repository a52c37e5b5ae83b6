"""What the parts get to see of the user's environment: what programs need to run, no secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping

NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM"),
        *("VIRTUAL_ENV", "PYTHONPATH", "PYTHONWARNINGS", "PYTHONUTF8"),
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    }
)
PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "PYTORCH_", "TORCH_", "OMP_", "MKL_", "STILLHOUSE_")
# Proxies are needed to fetch a teacher from elsewhere, and some programs know only small letters.
PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
# The client's own, for some other server.
CLIENT_ONLY = frozenset({"STILLHOUSE_API_KEY", "STILLHOUSE_URL"})


def child_environment(source: Mapping[str, str] | None = None) -> dict[str, str]:
    """The part of `source` (the process environment by default) that every part may see."""
    environment = os.environ if source is None else source
    allowed = {name: value for name, value in environment.items() if _is_allowed(name)}
    allowed.setdefault("PATH", os.defpath)
    # A folder called `api` where the user happens to stand must not shadow ours.
    return allowed | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _is_allowed(name: str) -> bool:
    if name in CLIENT_ONLY:
        return False
    return name in NAMES or name.startswith(PREFIXES) or name.upper() in PROXIES
