"""Decides whether a server process executes runs, and looks at schedules, itself."""

from __future__ import annotations

from django.conf import settings

from runs.worker.inprocess import InProcessExecutor
from triggers.ticker import Ticker


def start_executor() -> InProcessExecutor | None:
    """Start the in-process executor and the scheduler where there is no worker and no beat; both end with it."""
    if settings.PYFLOW_EXECUTOR != "inprocess":
        return None
    executor = InProcessExecutor()
    executor.start()
    Ticker().start()
    return executor
