"""`stillhouse demo`: one distillation from end to end, on the local stack, through the public API.

The demo trains a teacher on scikit-learn's handwritten digits and distills a student that is more
than ten times smaller. It downloads the student, stops the stack, and checks the student's accuracy
on the test images. The exit code is 0 only if every check passed.
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

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from kdcore.schema.report import Evaluation, Report
from stillhouse.client import Client, Json, StillhouseError
from stillhouse.local import Stack
from stillhouse.local.environment import child_environment
from stillhouse.local.redaction import read_secrets, redact
from stillhouse.local.supervise.lock import DataDirLock

TEACHER, STUDENT = "cifar/resnet8x4", "cifar/resnet8"
MIN_SIZE_RATIO = 10
# Percentage points. Images and weights are the same, so accuracies differ by rounding alone.
TOLERANCE_POINTS = 0.01


class DemoError(StillhouseError):
    """A check of the demo failed."""


def run_demo(output: Path, *, keep: bool, epochs: int, port: int) -> None:
    """Run the demo. Raises DemoError if a check failed, or another StillhouseError."""
    console = Console()
    started = time.monotonic()
    data_dir = output / "data"
    _delete_previous_demo(data_dir)
    output.mkdir(parents=True, exist_ok=True)
    with ExitStack() as cleanup:
        console.print("Starting Postgres, Valkey, the API, maintenance and the workers …")
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
    """Delete the data folder of an earlier demo, unless a process uses it."""
    if not data_dir.exists():
        return
    if not (data_dir / "version").exists() or not (data_dir / "postgres").exists():
        raise DemoError(f"{data_dir} is not from a demo: choose another folder with --output")
    lock = DataDirLock(data_dir / "lock")
    try:
        lock.acquire()
        shutil.rmtree(data_dir)
    finally:
        lock.release()


def _on_stack_failure(message: str) -> None:
    """End the demo when a process of the stack has exited too often."""
    print(f"stillhouse demo: {message}", file=sys.stderr)
    _thread.interrupt_main()


def _distill_teacher(client: Client, dataset: Json, epochs: int, progress: Progress) -> Json:
    """Train a teacher, then a student; return the student's finished job."""
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
    return _wait_with_progress(
        client, job, progress, "distilling the student, and one without a teacher"
    )


def _run_jobs(
    stack: Stack, output: Path, epochs: int, console: Console
) -> tuple[Report, Json, float]:
    """Train and download; return the report, the data set, and the seconds that it took."""
    started = time.monotonic()
    with Client(stack.url, stack.api_key) as client, _progress(console) as progress:
        dataset = client.post("/v1/datasets", {"name": "digits", "source": "builtin:digits"})
        dataset = _wait_with_progress(client, dataset, progress, "decoding the digits")
        job = _distill_teacher(client, dataset, epochs, progress)
        for artifact in client.artifacts(job):
            client.download(artifact, output)  # checks the SHA-256
        report = client.report(job)
    (output / "report.json").write_text(report.model_dump_json(indent=2))
    return report, dataset, time.monotonic() - started


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description:<50}"), BarColumn(), TextColumn("{task.fields[note]}"))
    return Progress(*columns, TimeElapsedColumn(), console=console)


def _wait_with_progress(
    client: Client, resource: Json, progress: Progress, description: str
) -> Json:
    task = progress.add_task(description, total=1.0, note="")
    if not progress.console.is_terminal:  # rich draws a bar in a file only when it is full
        progress.console.print(f"{description} …")

    def show_progress(current: Json) -> None:
        fraction = (current.get("progress") or {}).get("fraction", 0.0)
        top1 = (current.get("summary") or {}).get("val/top1")
        accuracy = "" if top1 is None else f" validation {top1:.1f} %"
        status = current.get("waiting_reason") or current.get("phase") or current["state"]
        note = f"{status}{accuracy}"
        progress.update(task, completed=fraction, note=note)

    resource = client.wait(resource, show_progress)
    progress.update(task, completed=1.0)
    return resource


def _check_student(output: Path, dataset: Json) -> float:
    """Return the top-1 of the downloaded student in percent, measured in a new process.

    The test images are ingested again, without the service.
    """
    work = output / "check"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    request = work / "request.json"
    request.write_text(
        json.dumps({"source": "builtin:digits", "split_seed": dataset["split_seed"]})
    )
    command = [sys.executable, "-m", "kdcore", "ingest", str(request), "--workdir", str(work)]
    subprocess.run(command, check=True, env=child_environment())
    lines = (work / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    digest = next(event["report"]["digest"] for event in events if event["type"] == "report")
    if digest != dataset["digest"]:
        raise DemoError(f"the digits ingested here have digest {digest}, not {dataset['digest']}")
    code = "import sys; from pathlib import Path; from stillhouse.student import top1; "
    code += "print(top1(Path(sys.argv[1]), Path(sys.argv[2])))"
    images = work / "artifacts" / "dataset.safetensors"
    checked = subprocess.run(
        [sys.executable, "-c", code, str(output), str(images)],
        check=True,
        capture_output=True,
        text=True,
        env=child_environment(),
    )
    shutil.rmtree(work)
    return float(checked.stdout)


def _check_claims(report: Report, accuracy: float) -> None:
    student, (teacher, _) = report.student, _teacher_and_baseline(report)
    if _size_ratio(student, teacher) < MIN_SIZE_RATIO:
        raise DemoError(f"the student is not {MIN_SIZE_RATIO} times smaller than its teacher")
    if abs(accuracy - student.top1) > TOLERANCE_POINTS:
        raise DemoError(
            f"the downloaded student has {accuracy:.2f} %, the service reported "
            f"{student.top1:.2f} %"
        )


def _size_ratio(student: Evaluation, teacher: Evaluation) -> float:
    """Parameters of the teacher for each one of the student; both are architectures by name."""
    return (teacher.num_params or 0) / (student.num_params or 1)


def _teacher_and_baseline(report: Report) -> tuple[Evaluation, Evaluation]:
    if report.teacher is None or report.baseline is None:
        raise DemoError("the teacher or the undistilled student is missing from the report")
    return report.teacher, report.baseline


def _table(report: Report) -> Table:
    table = Table(title="Handwritten digits, test split")
    table.add_column("")
    for name in ("top-1 %", "agreement %", "parameters", "bytes", "latency ms (p50)"):
        table.add_column(name, justify="right")
    teacher, baseline = _teacher_and_baseline(report)
    table.add_row("teacher", *_cells(teacher))
    table.add_row("student", *_cells(report.student))
    table.add_row("undistilled student", *_cells(baseline))
    return table


def _cells(evaluation: Evaluation) -> tuple[str, ...]:
    agreement = evaluation.agreement
    return (
        f"{evaluation.top1:.2f}",
        "-" if agreement is None else f"{agreement:.2f}",
        f"{evaluation.num_params:,}",
        f"{evaluation.size_bytes:,}",
        f"{evaluation.latency_ms.p50:.2f}",
    )


_BASELINE_NOTE = (
    "The same network without a teacher reached the same accuracy, because clean digits are easy. "
    "With few or noisy labels a teacher helps: see docs/reference/quality.md.\n"
)


def _summary_text(
    output: Path, report: Report, accuracy: float, seconds: float, started: float
) -> str:
    teacher, baseline = _teacher_and_baseline(report)
    size_ratio = _size_ratio(report.student, teacher)
    total_s = time.monotonic() - started
    baseline_note = "" if report.student.top1 > baseline.top1 else _BASELINE_NOTE
    return (
        f"The student is {size_ratio:.1f} times smaller than its teacher. Loaded without the "
        f"service, it has {accuracy:.2f} % on the test images, as reported.\n{baseline_note}"
        f"Its files are in {output.resolve()}: student.safetensors, config.json, model_card.md, "
        f"report.json.\nThe jobs took {seconds:.0f} s, the whole demo {total_s:.0f} s."
    )


def _wait_for_interrupt(stack: Stack, console: Console) -> None:
    console.print(f"dashboard {stack.login_link() or stack.url}")
    console.print(f"The API key is in {stack.services.data_dir.api_key}. Ctrl-C stops everything.")
    with suppress(KeyboardInterrupt):  # every check has passed, so Ctrl-C is a success
        while True:
            time.sleep(3600)


def main(output: Path, *, keep: bool, epochs: int, port: int) -> int:
    """Run the demo as a program; return the exit code, 0 only if every check passed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.default_int_handler)  # they stop the stack like Ctrl-C
    try:
        run_demo(output, keep=keep, epochs=epochs, port=port)
    except KeyboardInterrupt:
        return 130
    except (StillhouseError, subprocess.SubprocessError) as error:
        secrets = read_secrets(output / "data")
        print(f"stillhouse demo: {redact(str(error), secrets)}", file=sys.stderr)
        return 1
    return 0
