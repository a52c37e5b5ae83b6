"""Work folders of runs: those that a killed worker left are deleted at the next start."""

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


def run_folder(job: Job) -> Path:
    """The work folder of the job's current run."""
    return settings().work_dir / "runs" / f"{job.id}-{job.fence}"


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
