"""Who may import whom, and who may never load torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "module",
    [
        *(
            "api.app",
            "store.jobs",
            "store.migrate",
            "kdcore.protocol.requests",
            "stillhouse.command_line",
        ),
        *(
            "stillhouse.client",
            "worker.celery_app",
            "worker.executor",
            "worker.maintenance.__main__",
        ),
    ],
)
def test_no_torch_outside_the_engine(module: str, environment: dict[str, str]) -> None:
    # The application imports its resources by name when it is created.
    create = "api.app.create_app();" if module == "api.app" else ""
    code = f"import sys, {module}; {create} print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["False", "False"]


def test_only_store_jobs_writes_a_jobs_state(root: Path) -> None:
    """``job.state = …`` and ``Job(state=…)`` stand in one file."""
    writers = set()
    for room in ("api", "store", "worker"):
        for path in (root / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                targets = node.targets if isinstance(node, ast.Assign) else []
                for target in targets:
                    if (
                        isinstance(target, ast.Attribute)
                        and target.attr == "state"
                        and isinstance(target.value, ast.Name)
                        and target.value.id in ("job", "row")
                    ):
                        writers.add(path.relative_to(root).as_posix())
    assert writers == {"store/jobs/states.py"}


def test_the_client_alone_needs_no_server(root: Path) -> None:
    """What ``pip install stillhouse`` brings is enough for client and command line."""
    code = "import sys, stillhouse.client, stillhouse.command_line; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & {"fastapi", "sqlalchemy", "celery", "torch", "obstore", "psycopg"}
