"""Work folders of runs: paths in them; those that a killed worker left are deleted at a start."""

import shutil
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from store import jobs
from store.database import transaction
from store.settings import settings
from store.tables import Job

log = structlog.get_logger()


class OutsideWorkdirError(Exception):
    """The engine named a file that is not in its work folder; the file was not opened."""


def run_folder(job: Job) -> Path:
    """The work folder of the job's current run."""
    return settings().work_dir / "runs" / f"{job.id}-{job.fence}"


def output_path(workdir: Path, path: str) -> Path:
    """The path of a file that the engine names, relative to its work folder.

    The engine opens files of strangers, so that its events are not trusted: a path with ``..``, an
    absolute path or a symbolic link could name the files of another project.

    Raises:
        OutsideWorkdirError: the file is not in the folder.
    """
    resolved = (workdir / path).resolve()
    if not resolved.is_relative_to(workdir.resolve()):
        raise OutsideWorkdirError(f"the engine named the file {path!r} outside its work folder")
    return resolved


def delete_stale_folders() -> None:
    """Delete the folders of runs that do not hold their job any more."""
    folders = {path.name: path for path in (settings().work_dir / "runs").glob("job_*-*")}
    try:
        with transaction() as session:
            query = select(Job.id, Job.fence).where(
                Job.state.in_(jobs.LIVE_STATES),
                Job.id.in_([name.split("-")[0] for name in folders]),
            )
            live = {f"{job_id}-{fence}" for job_id, fence in session.execute(query)}
    except SQLAlchemyError as error:
        log.warning("work_folder_not_cleaned", error=str(error))
        return
    for name in folders.keys() - live:
        shutil.rmtree(folders[name], ignore_errors=True)
