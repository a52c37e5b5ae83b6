"""The tables. Every row belongs to a project."""

from store.tables.accounts import ApiKey, DashboardSession, LoginCode, Project
from store.tables.assets import Dataset, Model, TeacherCache, Upload, UploadPart
from store.tables.base import Base
from store.tables.runs import Artifact, Checkpoint, Job, JobEvent, Metric, Run
from store.tables.workers import IdempotencyKey, OutboxMessage, ProjectTurn, Worker

__all__ = [
    "ApiKey",
    "Artifact",
    "Base",
    "Checkpoint",
    "DashboardSession",
    "Dataset",
    "IdempotencyKey",
    "Job",
    "JobEvent",
    "LoginCode",
    "Metric",
    "Model",
    "OutboxMessage",
    "Project",
    "ProjectTurn",
    "Run",
    "TeacherCache",
    "Upload",
    "UploadPart",
    "Worker",
]
