"""``python -m store.access.bootstrap --api-key-file FILE``: the first project and its admin key."""

import argparse
import os
from pathlib import Path

from sqlalchemy import select

from store.access import credentials
from store.database import transaction
from store.tables import Project


def bootstrap(key_file: Path) -> None:
    """Create the default project and an admin key, unless the file holds a valid key."""
    with transaction() as session:
        if key_file.exists() and credentials.authenticate_key(
            session, key_file.read_text().strip()
        ):
            return
        project = session.scalars(select(Project).order_by(Project.created_at).limit(1)).first()
        if project is None:
            project = credentials.create_project(session, "default")
        secret = credentials.create_key(session, project.id, "first admin key", credentials.SCOPES)
        _write_private(key_file, f"{secret}\n")


def _write_private(path: Path, text: str) -> None:
    """Write a file atomically, readable only by its owner."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--api-key-file", type=Path, required=True)
    bootstrap(parser.parse_args().api_key_file)
