"""Logging of the servers: one JSON object per line on standard error, with a stable event name."""

import os
import sys

import structlog

from kdcore.runtime import failpoints
from store.settings import unknown_variables


def configure() -> None:
    """Configure structlog, and warn of environment variables that need attention."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(ensure_ascii=True),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    if os.environ.get(failpoints.ENV_VARIABLE):
        structlog.get_logger().warning("failpoints_enabled", variable=failpoints.ENV_VARIABLE)
    for variable in unknown_variables(os.environ):
        # Without its value, which may be a secret.
        structlog.get_logger().warning(
            "unknown_variable", variable=variable.name, nearest=variable.nearest
        )
