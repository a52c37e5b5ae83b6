"""`stillhouse demo`: the main job from end to end, on the embedded stack, by the public API alone.

A teacher is trained on scikit-learn's handwritten digits, a student more than ten times smaller is
distilled from it, downloaded, and checked with no service running. It ends well only if all held.
"""

import _thread
import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from stillhouse.client import ApiError, ChecksumError, Client, ResourceFailedError
from stillhouse.local import Stack
from stillhouse.local.errors import LocalError
from stillhouse.local.supervise.lock import DataDirLock

Json = dict[str, Any]
TEACHER, STUDENT = "cifar/resnet8x4", "cifar/resnet8"
MIN_SIZE_RATIO = 10
TOLERANCE_POINTS = (
    0.01  # the same images, the same weights: the accuracies differ by rounding alone
)


class DemoError(Exception):
    """Something that the demo claims did not hold."""


def run_demo(output: Path, *, keep: bool, epochs: int, port: int) -> None:
    """Run the whole story; raises NotHeld, or the client's and the stack's own errors."""
    console = Console()
    started = time.monotonic()
    data_dir = output / "data"
    _delete_previous_demo(data_dir)
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        console.print("Starting Postgres, Valkey, the API, the keeper and the workers …")
        stack = cleanup.enter_context(Stack(data_dir, port=port, on_failure=_on_stack_failure))
        console.print(f"ready {stack.url} after {time.monotonic() - started:.1f} s")
        report, dataset, seconds = _run_jobs(stack, output, epochs, console)
        dashboard = f"{stack.url}/"
        if not keep:
            cleanup.close()
        accuracy = _check_student(output, dataset)
        _check_claims(report, accuracy)
        console.print(_table(report))
        console.print(_summary_text(output, report, accuracy, seconds, started))
        if keep:
            _wait_for_interrupt(stack, console)
        else:
            console.print(
                f"The dashboard was at {dashboard}; to look again: make up "
                f'ARGS="--data-dir {data_dir.resolve()}"'
            )


def _delete_previous_demo(data_dir: Path) -> None:
    """Delete what an earlier demo left, if it is that, and if nobody uses it."""
    if not data_dir.exists():
        return
    if not (data_dir / "version").exists() or not (data_dir / "postgres").exists():
        raise DemoError(f"{data_dir} is not an earlier demo's: choose another folder with --output")
    lock = DataDirLock(data_dir / "lock")
    try:
        lock.acquire()
        shutil.rmtree(data_dir)
    finally:
        lock.release()


def _on_stack_failure(message: str) -> None:
    """A part of the stack died too often: nothing that is waited for will come."""
    print(f"stillhouse demo: {message}", file=sys.stderr)
    _thread.interrupt_main()


def _run_jobs(
    stack: Stack, output: Path, epochs: int, console: Console
) -> tuple[Json, Json, float]:
    """Data set, teacher, student, download; the report, the data set, and the jobs' seconds."""
    started = time.monotonic()
    with Client(stack.url, stack.api_key) as client, _progress(console) as progress:
        dataset = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        dataset = _wait_with_progress(client, dataset, progress, "decoding the digits")
        training = {"epochs": epochs}
        teacher_job = client.post(
            "/v1/jobs",
            {
                "name": "digits teacher",
                "student": {"architecture": TEACHER},
                "dataset": dataset["id"],
                "method": "supervised",
                "training": training,
            },
        )
        teacher_job = _wait_with_progress(client, teacher_job, progress, "training the teacher")
        teacher = client.post(
            "/v1/models", {"name": "digits teacher", "source": f"job:{teacher_job['id']}"}
        )
        job = client.post(
            "/v1/jobs",
            {
                "name": "digits: resnet8x4 -> resnet8",
                "teachers": [{"model": teacher["id"]}],
                "student": {"architecture": STUDENT},
                "dataset": dataset["id"],
                "method": {"type": "kd"},
                "training": training,
            },
        )
        job = _wait_with_progress(
            client, job, progress, "distilling the student, and one without a teacher"
        )
        for artifact in client.artifacts(job):
            client.download(artifact, output)  # refuses a file whose SHA-256 is wrong
        report = client.get(job["links"]["report"])
    (output / "report.json").write_text(json.dumps(report, indent=2))
    return report, dataset, time.monotonic() - started


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<50}"), BarColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, TimeElapsedColumn(), console=console)


def _wait_with_progress(
    client: Client, resource: Json, progress: Progress, description: str
) -> Json:
    task = progress.add_task(description, total=1.0, note="")
    if not progress.console.is_terminal:  # a bar is drawn there only once it is full
        progress.console.print(f"{description} …")

    def on_update(current: Json) -> None:
        fraction = (current.get("progress") or {}).get("fraction", 0.0)
        top1 = (current.get("summary") or {}).get("val/top1")
        known = "" if top1 is None else f" validation {top1:.1f} %"
        note = f"{current.get('phase') or current['state']}{known}"
        progress.update(task, completed=fraction, note=note)

    done = client.wait(resource, on_update)
    progress.update(task, completed=1.0)
    return done


def _check_student(output: Path, dataset: Json) -> float:
    """The downloaded student's accuracy on the test images, made anew, by a process of its own."""
    work = output / "check"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    request = work / "request.json"
    request.write_text(
        json.dumps({"source": "builtin:digits", "split_seed": dataset["split_seed"]})
    )
    command = [sys.executable, "-m", "kdcore", "ingest", str(request), "--workdir", str(work)]
    subprocess.run(command, check=True)
    events = [json.loads(line) for line in (work / "events.jsonl").read_text().splitlines()]
    digest = next(event["report"]["digest"] for event in events if event["type"] == "report")
    if digest != dataset["digest"]:
        raise DemoError(f"the digits made here have digest {digest}, not {dataset['digest']}")
    code = "import sys; from pathlib import Path; from stillhouse.student import top1; "
    code += "print(top1(Path(sys.argv[1]), Path(sys.argv[2])))"
    images = work / "artifacts" / "dataset.safetensors"
    checked = subprocess.run(
        [sys.executable, "-c", code, str(output), str(images)],
        check=True,
        capture_output=True,
        text=True,
    )
    shutil.rmtree(work)
    return float(checked.stdout)


def _check_claims(report: Json, accuracy: float) -> None:
    student, teacher = report["student"], report["teacher"]
    if student["num_params"] * MIN_SIZE_RATIO > teacher["num_params"]:
        raise DemoError(f"the student is not {MIN_SIZE_RATIO} times smaller than its teacher")
    if abs(accuracy - student["top1"]) > TOLERANCE_POINTS:
        raise DemoError(
            f"the downloaded student has {accuracy:.2f} %, the service reported "
            f"{student['top1']:.2f} %"
        )
    if report["baseline"] is None:
        raise DemoError("the undistilled student is missing from the report")


def _table(report: Json) -> Table:
    table = Table(title="Handwritten digits, test split")
    table.add_column("")
    for name in ("top-1 %", "agreement %", "parameters", "bytes", "latency ms (p50)"):
        table.add_column(name, justify="right")
    rows = {"teacher": "teacher", "student": "student", "undistilled student": "baseline"}
    for title, key in rows.items():
        entry = report[key]
        agreement = entry["agreement"]
        table.add_row(
            title,
            f"{entry['top1']:.2f}",
            "-" if agreement is None else f"{agreement:.2f}",
            f"{entry['num_params']:,}",
            f"{entry['size_bytes']:,}",
            f"{entry['latency_ms']['p50']:.2f}",
        )
    return table


_BASELINE_NOTE = (
    "The same network without a teacher did as well: clean digits are learned from their labels. "
    "Where labels are few or noisy a teacher is worth points: docs/reference/quality.md.\n"
)


def _summary_text(
    output: Path, report: Json, accuracy: float, seconds: float, started: float
) -> str:
    size_ratio = report["teacher"]["num_params"] / report["student"]["num_params"]
    total_s = time.monotonic() - started
    baseline_note = "" if report["student"]["top1"] > report["baseline"]["top1"] else _BASELINE_NOTE
    return (
        f"The student is {size_ratio:.1f} times smaller than its teacher. Loaded without the "
        f"service, it has {accuracy:.2f} % on the test images, as reported.\n{baseline_note}"
        f"Its files are in {output.resolve()}: student.safetensors, config.json, model_card.md, "
        f"report.json.\nThe jobs took {seconds:.0f} s, all of it {total_s:.0f} s."
    )


def _wait_for_interrupt(stack: Stack, console: Console) -> None:
    console.print(f"dashboard {stack.login_link() or stack.url}")
    console.print(f"The API key is in {stack.services.data_dir.api_key}. Ctrl-C stops everything.")
    with suppress(KeyboardInterrupt):  # everything has held: this is how it ends well
        while True:
            time.sleep(3600)


def main(output: Path, *, keep: bool, epochs: int, port: int) -> int:
    """Run it as a program: the exit status is 0 only if everything held."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C, and as cleanly
    try:
        run_demo(output, keep=keep, epochs=epochs, port=port)
    except KeyboardInterrupt:
        return 130
    except (DemoError, ResourceFailedError, ApiError, ChecksumError, LocalError) as error:
        print(f"stillhouse demo: {error}", file=sys.stderr)
        return 1
    except (httpx.HTTPError, subprocess.SubprocessError) as error:
        print(f"stillhouse demo: {error}", file=sys.stderr)
        return 1
    return 0
