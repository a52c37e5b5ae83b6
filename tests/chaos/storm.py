"""``python -m tests.chaos.storm --minutes 30 --seed 1``: clients work while everything fails.

Two projects of two clients each post, pause, resume and cancel; afterwards every invariant is
checked, and a summary is printed. The same seed does the same faults in the same order.
"""

import argparse
import random
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker
from tests.chaos.nemesis import Nemesis
from tests.chaos.workload import Client, History, live

TRAINING = {"epochs": 5, "batch_size": 64}
SETTLE_S = 600.0


def recipe(arena: Arena, http: Any) -> dict[str, Any]:
    """The one job that all clients post: two seconds of training with five checkpoints."""
    body = {"name": "digits", "source": "builtin:digits"}
    dataset = http.post("/v1/datasets", json=body).raise_for_status().json()
    url = f"/v1/datasets/{dataset['id']}"
    arena.until(lambda: http.get(url).json()["state"] == "ready", 120, "the data set is ready")
    student = {"architecture": "cifar/resnet8"}
    return {"student": student, "dataset": dataset["id"], "training": TRAINING}


def run_undisturbed_job(arena: Arena) -> str:
    """The SHA-256 of the student of a job without faults."""
    with arena.client() as http:
        job = http.post("/v1/jobs", json=recipe(arena, http)).raise_for_status().json()
        url = f"/v1/jobs/{job['id']}"
        arena.until(lambda: http.get(url).json()["state"] == "succeeded", 120, "it has succeeded")
        files = http.get(f"{url}/artifacts").raise_for_status().json()["data"]
    (sha256,) = [
        artifact["sha256"] for artifact in files if artifact["name"] == "student.safetensors"
    ]
    return str(sha256)


def storm(
    arena: Arena, history: History, seconds: float, seed: int
) -> tuple[Nemesis, list[Client]]:
    """Inject faults, then wait until all jobs have ended; the caller checks."""
    chance = random.Random(seed)
    stop = threading.Event()
    clients, threads = [], []
    for project in ("one", "other"):
        http = arena.project(project)
        body = recipe(arena, http)
        for number in (1, 2):
            client = Client(http, history, f"{project} {number}")
            working = (client, body, random.Random(chance.random()), stop)
            threads.append(threading.Thread(target=live, args=working))
            clients.append(client)
    for thread in threads:
        thread.start()
    nemesis = Nemesis(arena, seed)
    try:
        nemesis.rage(seconds)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    arena.proxy.heal()
    arena.disarm()
    left = [job for client in clients for job in client.settle(SETTLE_S)]
    assert left == [], f"seed {seed}: not over in {SETTLE_S:.0f} s: {left}"
    return nemesis, clients


def summary(nemesis: Nemesis, clients: list[Client], checker: Checker) -> str:
    """Faults, recoveries and counts, as a table."""
    lines = ["| fault | times | recovery, median s | longest s |", "|---|---|---|---|"]
    for kind, times in sorted(nemesis.recoveries.items()):
        middle = statistics.median(times)
        lines.append(f"| {kind} | {len(times)} | {middle:.1f} | {max(times):.1f} |")
    states = checker.rows("SELECT state, count(*) AS n FROM jobs WHERE queue = 'train' GROUP BY 1")
    runs = checker.rows('SELECT "exit", count(*) AS n FROM runs GROUP BY 1 ORDER BY 2 DESC')
    accepted = {job for client in clients for job in client.acknowledged.values()}
    known = {row["id"] for row in checker.rows("SELECT id FROM jobs")}
    students = "SELECT job_id FROM artifacts WHERE name = 'student.safetensors'"
    published = [row["job_id"] for row in checker.rows(students)]
    lines += [
        "",
        f"acknowledged: {len(accepted)}, lost: {len(accepted - known)}, "
        f"published twice: {len(published) - len(set(published))}",
        "jobs: " + ", ".join(f"{row['n']} {row['state']}" for row in states),
        "runs: " + ", ".join(f"{row['n']} {row['exit']}" for row in runs),
        f"students: {len(published)}, different: {len(checker.students())}",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run a storm and print its summary."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.storm", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        history = History(Path(folder) / "history.jsonl")
        with Arena(Path(folder) / "arena") as arena:
            checker = Checker(arena)
            quiet = run_undisturbed_job(arena)
            nemesis, clients = storm(arena, history, 60 * options.minutes, options.seed)
            checker.assert_all(clients, history)
            students = set(checker.students())
            assert students == {quiet}, f"seed {options.seed}: {students}, undisturbed {quiet}"
            sys.stdout.write(f"{summary(nemesis, clients, checker)}\n")
            longest = max(call["seconds"] for call in history.calls)
            sys.stdout.write(f"calls: {len(history.calls)}, the longest {longest:.1f} s\n")


if __name__ == "__main__":
    main()
