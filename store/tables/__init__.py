"""The rows. Every one belongs to a project."""

from store.tables.accounts import ApiKey, DashboardSession, LoginCode, Project
from store.tables.assets import Dataset, Model, TeacherCache, Upload, UploadPart
from store.tables.base import Base
from store.tables.jobs import Artifact, Checkpoint, Event, Job, Metric, Run
from store.tables.workers import IdempotencyKey, Poke, Turn, Worker

__all__ = [
    "ApiKey",
    "Artifact",
    "Base",
    "Checkpoint",
    "DashboardSession",
    "Dataset",
    "Event",
    "IdempotencyKey",
    "Job",
    "LoginCode",
    "Metric",
    "Model",
    "Poke",
    "Project",
    "Run",
    "TeacherCache",
    "Turn",
    "Upload",
    "UploadPart",
    "Worker",
]
