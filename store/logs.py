"""How the servers log: one JSON object a line on standard error, a stable event name, fields."""

import os
import sys

import structlog

from kdcore.runtime import failpoints


def configure() -> None:
    """Set the form of log lines for this process."""
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
