"""Environment variables that the processes inherit: what programs need, and no secrets."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TERM"),
        "VIRTUAL_ENV",
        *("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    }
)
PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "PYTORCH_", "TORCH_", "OMP_", "MKL_", "STILLHOUSE_")
# Workers download teachers through a proxy; some programs read only the lower-case names.
PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# For the client, which may use another server.
CLIENT_ONLY = frozenset({"STILLHOUSE_API_KEY", "STILLHOUSE_URL"})
PYTHON_VARIABLES = {
    # Not the user's PYTHONPATH: packages `api`, `store` or `worker` there would shadow ours.
    "PYTHONPATH": str(Path(__file__).parents[2]),
    # Without PYTHONSAFEPATH, a folder `api` in the current folder would shadow the package.
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    # Paths and files are UTF-8 in every locale.
    "PYTHONUTF8": "1",
}


def child_environment(source: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the variables of `source` (default: `os.environ`) that every process may have."""
    environment = os.environ if source is None else source
    allowed = {name: value for name, value in environment.items() if _is_allowed(name)}
    allowed.setdefault("PATH", os.defpath)
    if PROXIES & {name.upper() for name in allowed}:
        allowed |= _without_proxy_for_loopback(allowed)
    return allowed | PYTHON_VARIABLES


def _without_proxy_for_loopback(environment: Mapping[str, str]) -> dict[str, str]:
    """Return both spellings of NO_PROXY, extended by this machine's addresses."""
    exceptions = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    names = [name.strip() for name in exceptions.split(",") if name.strip()]
    text = ",".join([*names, *(host for host in LOOPBACK if host not in names)])
    return {"no_proxy": text, "NO_PROXY": text}


def _is_allowed(name: str) -> bool:
    if name in CLIENT_ONLY:
        return False
    return name in NAMES or name.startswith(PREFIXES) or name.upper() in PROXIES
