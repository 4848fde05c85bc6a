"""Process-wide settings of the library: logging."""

from __future__ import annotations

import logging

import structlog


def configure_logging(json_output: bool = False, level: int = logging.INFO) -> None:
    """Set structlog up: lines for people, or one JSON object a line; what is below ``level`` costs nothing."""
    renderer = structlog.processors.JSONRenderer() if json_output else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            *([structlog.processors.format_exc_info] if json_output else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        context_class=dict,
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
