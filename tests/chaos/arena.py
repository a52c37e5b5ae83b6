"""The whole product with everything doubled, on a real S3 server, with short times."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import httpx
import redis
from sqlalchemy.engine import make_url

from kdcore.runtime import failpoints
from stillhouse.local import Services
from stillhouse.local.ports import free_port
from stillhouse.local.program_specs import CELERY, QUIET, api_ready, one_shot
from stillhouse.local.supervise.process_spec import ProcessSpec
from stillhouse.local.supervise.supervisor import SupervisedProcess
from tests.chaos.commits import Commits
from tests.chaos.proxy import Proxy
from tests.chaos.weed import BUCKET, Weed
from tests.helpers import wait_until

LEASE_S = 4.0
SHORT = {
    "LEASE_S": str(LEASE_S),
    "HEARTBEAT_S": "0.5",
    "MAINTENANCE_INTERVAL_S": "0.5",
    "REMINDER_INTERVAL_S": "2",
    "POLL_S": "0.1",
    "STOP_GRACE_S": "6",
    "STORAGE_RETRY_DELAY_S": "0.5",
    "STALL_S": "20",
    "STATEMENT_TIMEOUT_S": "2",
    "DATABASE_TIMEOUT_S": "3",
    "REQUEST_TIMEOUT_S": "8",
    "OBJECT_TIMEOUT_S": "3",
    "OBJECT_RETRY_TIMEOUT_S": "6",
    "ENGINE_THREADS": "1",
    "TRAINING_SLOTS": "2",
}
MANY = httpx.Limits(max_connections=None)
TRAINERS = ("train-1", "train-2")
MAINTENANCE = ("maintenance-1", "maintenance-2")


def _worker(name: str, queue: str) -> tuple[str, ...]:
    return (*CELERY, "-c", "1", "-Q", queue, "-n", f"{name}@%h", *QUIET)


def _stop_tree(pid: int) -> list[int]:
    """Stop a process and its descendants, which have sessions of their own. Returns their ids.

    A stopped process starts no more children, so it is stopped before they are listed.
    """
    pids = [pid]
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, signal.SIGSTOP)
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            pids += _stop_tree(int(child))
    return pids


class Arena:
    """The servers of the product: an API, two maintenance processes, two workers of ``train`` and
    one of ``prepare``; faults may end any of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.services = Services(root / "data")
        self.weed = Weed(root / "weed")
        self.failpoints = root / "failpoints"
        self.failpoints.mkdir()
        self.url = ""
        self._open = contextlib.ExitStack()
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        self.services.__enter__()
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        self.services.__exit__(None, None, None)

    def _before_postgres(self) -> str:
        """The address of the database with a proxy on the way."""
        url = make_url(self.services.environment["STILLHOUSE_DATABASE_URL"])
        # A short one: the path of a socket has at most 107 bytes.
        folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="commits-"))
        behind = Path(str(url.query["host"])) / f".s.PGSQL.{url.query['port']}"
        self.commits = Commits(Path(folder), behind)
        self._open.callback(self.commits.close)
        return url.update_query_dict({"host": folder}).render_as_string(hide_password=False)

    def _start(self) -> None:
        supervisor = self.services.supervisor
        store = supervisor.start(self.weed.part(self.services.environment))
        supervisor.await_ready(store)
        self.proxy = Proxy(free_port("127.0.0.1", 0), self.weed.port)
        self._open.callback(self.proxy.close)
        self.environment = {
            **self.services.environment,
            "STILLHOUSE_DATABASE_URL": self._before_postgres(),
            **{f"STILLHOUSE_{name}": value for name, value in SHORT.items()},
            **self.weed.credentials,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.proxy.port}",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "STILLHOUSE_OBJECT_STORE": f"s3://{BUCKET}/chaos",
            failpoints.ENV_VARIABLE: str(self.failpoints),
        }
        for name in ("migrate", "bootstrap"):
            done = supervisor.run(one_shot(name, self.environment, self.services.data_dir))
            assert done.returncode == 0, done.stderr
        port = free_port("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{port}"
        address = ("--host", "127.0.0.1", "--port", str(port))
        api = self._program("api", "-m", "api", *address)
        for name in MAINTENANCE:
            self._program(name, "-m", "worker.maintenance")
        for name in (*TRAINERS, "prepare"):
            self._program(name, *_worker(name, name.partition("-")[0]))
        self.until(lambda: api_ready(self.url), 120, "the API is ready")
        assert api.pid

    def apart(self, name: str, *before: str, **more: str) -> "subprocess.Popen[bytes]":
        """Another training worker without a supervisor; ``before`` is a command that wraps it."""
        argv = [*before, sys.executable, *_worker(name, "train")]
        with (self.root / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                argv,
                env={**self.environment, **more},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _program(self, name: str, *arguments: str) -> SupervisedProcess:
        folder = self.services.data_dir.root
        part = ProcessSpec(name, (sys.executable, *arguments), self.environment, folder)
        return self.services.supervisor.start(part)

    @property
    def api_key(self) -> str:
        return self.services.data_dir.api_key.read_text().strip()

    def client(self, key: str = "") -> httpx.Client:
        headers = {"Authorization": f"Bearer {key or self.api_key}"}
        client = httpx.Client(base_url=self.url, headers=headers, timeout=20, limits=MANY)
        self._open.callback(client.close)
        return client

    def project(self, name: str) -> httpx.Client:
        """A client of a new project."""
        with self.client() as admin:
            project = admin.post("/v1/projects", json={"name": name}).raise_for_status().json()
        return self.client(project["api_key"])

    def pid(self, part: str) -> int:
        """The process id of a part; waits for a part that is being started again."""
        running = self.services.supervisor.processes[part]
        self.until(lambda: running.pid > 0, 60, f"{part} runs")
        return running.pid

    def kill(self, part: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to all processes of a part, as a machine that dies would."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid(part), number)

    def freeze_for(self, part: str, seconds: float) -> None:
        """Stop a part's processes for a while."""
        with self.freeze(part):
            time.sleep(seconds)  # how long it is frozen is the fault itself

    @contextlib.contextmanager
    def freeze(self, part: str) -> Iterator[None]:
        """Stop the processes of a part during the block; of Postgres those in other sessions, too.

        The engine of a frozen worker runs on.
        """
        pid = self.pid(part)
        stopped = _stop_tree(pid) if part == "postgres" else [-pid]
        if part != "postgres":
            os.killpg(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for stopped_pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(stopped_pid, signal.SIGCONT)

    def forget_files(self) -> None:
        """Empty the workers' cache: what they need comes from the object store again."""
        for path in (self.services.data_dir.work / "cache").glob("*"):
            path.unlink(missing_ok=True)

    def forget_messages(self) -> None:
        """Empty the broker."""
        address = urlsplit(self.environment["STILLHOUSE_BROKER_URL"])
        with contextlib.closing(redis.Redis(unix_socket_path=address.path)) as broker:
            broker.flushall()

    def arm(self, point: str, act: str = "kill") -> None:
        """Let the next process that reaches a failpoint die, hang or fail."""
        (self.failpoints / point).write_text(act)

    @property
    def armed(self) -> set[str]:
        """Failpoints that no process has reached yet."""
        return {path.name for path in self.failpoints.iterdir() if path.name[0] != "."}

    def disarm(self) -> None:
        for name in self.armed:
            (self.failpoints / name).unlink(missing_ok=True)

    until = staticmethod(wait_until)
