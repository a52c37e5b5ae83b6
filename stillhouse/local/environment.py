"""Environment variables that the processes inherit: what programs need, and no secrets."""

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
# Workers download teachers through a proxy; some programs read only the lower-case names.
PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
# For the client, which may use another server.
CLIENT_ONLY = frozenset({"STILLHOUSE_API_KEY", "STILLHOUSE_URL"})


def child_environment(source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of `source` (default: `os.environ`) that every process may have."""
    environment = os.environ if source is None else source
    allowed = {name: value for name, value in environment.items() if _is_allowed(name)}
    allowed.setdefault("PATH", os.defpath)
    # Without PYTHONSAFEPATH, a folder `api` in the current folder would shadow the package.
    return allowed | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}


def _is_allowed(name: str) -> bool:
    if name in CLIENT_ONLY:
        return False
    return name in NAMES or name.startswith(PREFIXES) or name.upper() in PROXIES
