"""`stillhouse submit`, `wait`, `pause` and others: jobs from the command line, for scripts.

Exit codes: 0 the job has succeeded (or was accepted, without waiting), 1 it has failed or was
cancelled, 2 the service refused or could not be asked.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from stillhouse.client import ApiError, ChecksumError, Client, ResourceFailedError

Json = dict[str, Any]
EXIT_OK, EXIT_JOB_FAILED, EXIT_REFUSED = 0, 1, 2
DEFAULT_URL = "http://127.0.0.1:8000"


def submit(source: Path, *, wait: bool, output: Path | None) -> int:
    """Post the job in a JSON file, ``-`` for standard input. Its id goes to standard output."""

    def act(client: Client) -> int:
        job = client.post("/v1/jobs", _read_job(source))
        sys.stdout.write(f"{job['id']}\n")
        sys.stdout.flush()
        return _wait_for_job(client, job, output) if wait or output else EXIT_OK

    return _run_with_client(act)


def wait_for_job(job_id: str, *, output: Path | None) -> int:
    """Wait for a job, and download what it has published if ``output`` is given."""
    return _run_with_client(
        lambda client: _wait_for_job(client, client.get(f"/v1/jobs/{job_id}"), output)
    )


def run_action(job_id: str, action: str) -> int:
    """Cancel, pause, resume or retry a job. Its state after that goes to standard output."""

    def act(client: Client) -> int:
        job = getattr(client, action)(job_id)
        sys.stdout.write(f"{job['state']}\n")
        return EXIT_OK

    return _run_with_client(act)


def _run_with_client(act: Any) -> int:
    console = Console(stderr=True)
    try:
        with Client(os.environ.get("STILLHOUSE_URL", DEFAULT_URL), _api_key()) as client:
            return int(act(client))
    except ResourceFailedError as job_error:
        console.print(str(job_error), style="red", markup=False)
        return EXIT_JOB_FAILED
    except (ApiError, ChecksumError, OSError, ValueError) as refusal:
        console.print(str(refusal), style="red", markup=False)
    except httpx.TransportError as error:
        console.print(f"the service cannot be reached: {error}", style="red", markup=False)
    return EXIT_REFUSED


def _api_key() -> str:
    """From the environment, else that of the stack on this machine."""
    key = os.environ.get("STILLHOUSE_API_KEY")
    if key:
        return key
    from stillhouse.local.data_dir import default_data_dir

    path = default_data_dir() / "api-key"
    if not path.exists():
        raise ValueError(f"set STILLHOUSE_API_KEY: there is no key in {path} either")
    return path.read_text(encoding="utf-8").strip()


def _read_job(source: Path) -> Json:
    text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
    body = json.loads(text)
    if not isinstance(body, dict):
        message = f"{source} must hold one JSON object: the job as POST /v1/jobs takes it"
        raise ValueError(message)  # noqa: TRY004 - the file is wrong, not our code
    return body


def _wait_for_job(client: Client, job: Json, output: Path | None) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("waiting", total=1.0)

        def on_update(current: Json) -> None:
            status = current["waiting_reason"] or current["phase"] or current["state"]
            done = (current["progress"] or {}).get("fraction", 0.0)
            progress.update(bar, description=f"{current['state']}: {status}", completed=done)

        job = client.wait(job, on_update)
        progress.update(bar, description="succeeded", completed=1.0)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for artifact in client.artifacts(job):
            client.download(artifact, output)
    return EXIT_OK
