"""Decides whether a server process executes runs itself."""

from __future__ import annotations

from django.conf import settings

from runs.worker.inprocess import InProcessExecutor


def start_executor() -> InProcessExecutor | None:
    """Start the in-process executor if the installation has no workers; it ends with the process."""
    if settings.PYFLOW_EXECUTOR != "inprocess":
        return None
    executor = InProcessExecutor()
    executor.start()
    return executor
