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


def source_folder(job: Job) -> Path:
    """The folder of a job that reads a source, for all of its runs on this machine."""
    return settings().work_dir / "sources" / job.id


def delete_ended_sources() -> None:
    """Delete the folders of sources whose jobs have ended, or do not exist any more."""
    folders = {path.name: path for path in (settings().work_dir / "sources").glob("job_*")}
    if not folders:
        return
    try:
        with transaction() as session:
            unfinished = Job.state.not_in(jobs.TERMINAL_STATES)
            used = set(session.scalars(select(Job.id).where(unfinished, Job.id.in_(folders))))
    except SQLAlchemyError as error:
        log.warning("source_folders_not_cleaned", error=str(error))
        return
    for name in folders.keys() - used:
        shutil.rmtree(folders[name], ignore_errors=True)


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
