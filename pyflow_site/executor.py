"""Decides whether a server process executes runs, looks at schedules and event triggers, and sends webhooks, itself."""

from __future__ import annotations

from django.conf import settings

from events.webhooks.sender import WebhookSender
from runs.worker.inprocess import InProcessExecutor
from triggers.event_ticker import EventTicker
from triggers.ticker import Ticker


def start_executor() -> InProcessExecutor | None:
    """Start the in-process executor, the schedulers and the sender where there is no worker and no beat.

    They end with the process.
    """
    if settings.PYFLOW_EXECUTOR != "inprocess":
        return None
    executor = InProcessExecutor()
    executor.start()
    Ticker().start()
    EventTicker().start()
    WebhookSender().start()
    return executor
