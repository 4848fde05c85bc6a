"""Starts the scheduler and the thread of event triggers in celery-beat's process."""

from __future__ import annotations

from typing import Any

from celery.signals import beat_embedded_init, beat_init

from triggers.event_ticker import EventTicker
from triggers.ticker import Ticker


@beat_init.connect
@beat_embedded_init.connect
def _start_ticker(**_: Any) -> None:
    Ticker().start()
    EventTicker().start()
