"""`stillhouse submit`, `wait`, `cancel`, `pause`, `resume` and `retry`: jobs from a shell.

`stillhouse dataset` creates a data set. Exit codes: 0 the job succeeded (without waiting: was
accepted), 1 the job failed or was cancelled, or its student does not meet the criteria of
``accept``, 2 the service refused the request or cannot be reached.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from kdcore.schema.report import Finding
from stillhouse.client import Client, Json, ResourceFailedError, StillhouseError

EXIT_OK, EXIT_JOB_FAILED, EXIT_REFUSED = 0, 1, 2
DEFAULT_URL = "http://127.0.0.1:8000"


def submit(source: Path, *, wait: bool, output: Path | None) -> int:
    """Submit the job in a JSON file, ``-`` for standard input; write its id to standard output."""

    def run(client: Client) -> int:
        job = client.post("/v1/jobs", _read_job(source))
        sys.stdout.write(f"{job['id']}\n")
        sys.stdout.flush()
        return _wait_for_job(client, job, output) if wait or output else EXIT_OK

    return _run_with_client(run)


def wait_for_job(job_id: str, *, output: Path | None) -> int:
    """Wait for a job, then download its files into ``output`` unless that is None."""
    return _run_with_client(
        lambda client: _wait_for_job(client, client.get(f"/v1/jobs/{job_id}"), output)
    )


def create_dataset(name: str, *, file: Path | None, source: str | None, wait: bool) -> int:
    """Create a data set from an upload of ``file`` or from ``source``; write its id."""

    def run(client: Client) -> int:
        if (file is None) == (source is None):
            raise ValueError("name either a file to upload, or --source")
        origin = {"source": source} if file is None else {"upload_id": client.upload(file)}
        dataset = client.post("/v1/datasets", {"name": name, **origin})
        sys.stdout.write(f"{dataset['id']}\n")
        sys.stdout.flush()
        if wait:
            client.wait(dataset)
        return EXIT_OK

    return _run_with_client(run)


def run_action(job_id: str, action: str) -> int:
    """Cancel, pause, resume or retry a job; write its new state to standard output."""

    def run(client: Client) -> int:
        job = getattr(client, action)(job_id)
        sys.stdout.write(f"{job['state']}\n")
        return EXIT_OK

    return _run_with_client(run)


def _run_with_client(run: Callable[[Client], int]) -> int:
    console = Console(stderr=True)
    try:
        with Client(os.environ.get("STILLHOUSE_URL", DEFAULT_URL), _api_key()) as client:
            return run(client)
    except ResourceFailedError as error:
        console.print(str(error), style="red", markup=False)
        return EXIT_JOB_FAILED
    except (StillhouseError, OSError, ValueError) as error:
        console.print(str(error), style="red", markup=False)
    return EXIT_REFUSED


def _api_key() -> str:
    """Return STILLHOUSE_API_KEY, or the first key of the local stack."""
    key = os.environ.get("STILLHOUSE_API_KEY")
    if key:
        return key
    from stillhouse.local.data_dir import default_data_dir

    path = default_data_dir() / "api-key"
    if not path.exists():
        raise ValueError(f"no API key: set STILLHOUSE_API_KEY (there is no local key in {path})")
    return path.read_text(encoding="utf-8").strip()


def _read_job(source: Path) -> Json:
    text = sys.stdin.read() if str(source) == "-" else source.read_text(encoding="utf-8")
    body = json.loads(text.removeprefix("\ufeff"))  # PowerShell and some editors write this mark
    if not isinstance(body, dict):
        message = f"{source} must hold one JSON object: the body of POST /v1/jobs"
        raise ValueError(message)  # noqa: TRY004 - the file is wrong, not the caller's argument
    return body


def _wait_for_job(client: Client, job: Json, output: Path | None) -> int:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bar = progress.add_task("waiting", total=1.0)

        def show_progress(current: Json) -> None:
            status = current["waiting_reason"] or current["phase"] or current["state"]
            fraction = (current["progress"] or {}).get("fraction", 0.0)
            progress.update(bar, description=f"{current['state']}: {status}", completed=fraction)

        job = client.wait(job, show_progress)
        progress.update(bar, description="succeeded", completed=1.0)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        for artifact in client.artifacts(job):
            client.download(artifact, output)
    result = job["result"] or {}
    # A result with a verdict belongs to a job that has a report.
    report = client.get(job["links"]["report"]) if "verdict" in result else {}
    return _show_result(result, report.get("warnings", ()))


def _show_result(result: Json, warnings: Iterable[str]) -> int:
    """Write numbers, verdict and warnings of a job to standard error; return the exit code."""
    verdict = result.get("verdict")
    if verdict is None:
        return EXIT_OK
    console = Console(stderr=True)
    names = {"student": "student", "teacher": "teacher", "baseline": "without distillation"}
    values = {label: result.get(f"{name}_top1") for name, label in names.items()}
    top1 = [f"{label} {value:.2f} %" for label, value in values.items() if value is not None]
    console.print(f"top-1 on the test split: {', '.join(top1)}", markup=False, highlight=False)
    for finding in verdict.get("findings", ()):
        sentence = Finding.model_validate(finding, extra="ignore").sentence
        console.print(f"warning: {sentence}", style="yellow", markup=False)
    for warning in warnings:
        console.print(f"warning: {warning}", style="yellow", markup=False)
    for check in verdict["checks"]:
        if not check["passed"]:
            measured = f"{check['name']} {check['limit']:g}: {check['value']:.4g} was measured"
            console.print(f"not accepted: {measured}", style="red", markup=False)
    return EXIT_JOB_FAILED if verdict["accepted"] is False else EXIT_OK
