"""Tells executors that there is work. The committed row is the job; this is only the doorbell.

Losing every ring, or hearing each twice, changes nothing but latency: executors look for themselves now and then.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from celery import current_app
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)
EXECUTE_TASK = "runs.execute"

_lock = threading.Lock()
_doorbells: list[Callable[[], None]] = []


def attach(doorbell: Callable[[], None]) -> None:
    """Ring ``doorbell`` (from any thread) for every run that is committed in this process."""
    with _lock:
        _doorbells.append(doorbell)


def detach(doorbell: Callable[[], None]) -> None:
    """Ring it no more."""
    with _lock:
        _doorbells.remove(doorbell)


def nudge() -> None:
    """Ring once the current transaction is committed (at once outside of one)."""
    transaction.on_commit(ring)


def ring() -> None:
    """Ring now. Never raises and never waits long: if the broker is away, the sweeper finds the run."""
    with _lock:
        doorbells = list(_doorbells)
    for doorbell in doorbells:
        doorbell()
    if settings.PYFLOW_EXECUTOR == "celery":
        try:
            current_app.send_task(EXECUTE_TASK, ignore_result=True, expires=60)
        except Exception:
            logger.warning("the broker does not answer; the sweeper will find the run", exc_info=True)
