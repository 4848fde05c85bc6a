"""The scheduler: a thread that looks at schedules for as long as its process has the lease.

It runs in the server's process in the single-node shape, and in celery-beat's in a fleet: there may be several.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
import time
from datetime import UTC, datetime

from django.db import DatabaseError, connections

from pyflow.core.ids import new_uuid
from triggers.services.retention import prune_triggers
from triggers.services.schedules import leadership, retention, ticks

logger = logging.getLogger(__name__)
#: A schedule that is new, or was resumed, is seen after so many seconds at the latest.
LOOK_SECONDS = 0.25
#: Between two looks at the runs that schedules have started, and at slots that wait for their ends.
FOLLOW_SECONDS = 1.0
#: A due slot that another transaction has locked is looked at again after so many seconds.
LOCKED_SECONDS = 0.02
#: What did not work, because the database did not answer, is tried again after so many seconds.
RETRY_SECONDS = 1.0
PRUNE_SECONDS = 3600.0
#: Characters of the name of this machine in that of the holder of the lease.
_MOST_NAME = 64


class Ticker:
    """Looks at schedules on a thread of its own, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        machine, number = socket.gethostname()[:_MOST_NAME], new_uuid().hex
        self.holder = f"{machine}:{os.getpid()}:{number}"
        self._thread = threading.Thread(target=self._work, name="pyflow-ticker", daemon=True)
        self._stopped = threading.Event()
        self._term: int | None = None
        self._renew_at = 0.0
        self._follow_at = self._prune_at = 0.0

    def start(self) -> None:
        """Begin to look; the thread ends with the process, or by ``stop``."""
        self._thread.start()
        atexit.register(self.stop)

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread and give the lease back, waiting up to ``timeout`` seconds."""
        self._stopped.set()
        self._thread.join(timeout)
        atexit.unregister(self.stop)

    def _work(self) -> None:
        while not self._stopped.is_set():
            try:
                pause = self._look()
            except DatabaseError as error:
                logger.warning("the scheduler cannot work for now: %s", error)
                pause = RETRY_SECONDS
                connections.close_all()
            except Exception:  # a mistake of ours must not end the thread, and with it all schedules
                logger.exception("the scheduler failed, and tries again")
                pause = RETRY_SECONDS
            self._stopped.wait(pause)
        try:
            leadership.resign(self.holder)
        except DatabaseError as error:
            logger.warning("the lease of the scheduler was not given back, and ends by itself: %s", error)
        finally:
            connections.close_all()

    def _look(self) -> float:
        """Do what is due if this process leads; the seconds until there may be more."""
        if not self._leads():
            return leadership.RENEW_SECONDS
        if time.monotonic() >= self._follow_at:
            self._follow_at = time.monotonic() + FOLLOW_SECONDS
            ticks.follow_runs()
        ticks.fire_due()
        if time.monotonic() >= self._prune_at:
            self._prune_at = time.monotonic() + PRUNE_SECONDS
            retention.prune_fires()
            prune_triggers()
        due = ticks.next_due()
        wait = LOOK_SECONDS if due is None else (due - datetime.now(UTC)).total_seconds()
        return min(max(wait, LOCKED_SECONDS), LOOK_SECONDS)

    def _leads(self) -> bool:
        if self._term is not None and time.monotonic() < self._renew_at:
            return True
        self._renew_at = time.monotonic() + leadership.RENEW_SECONDS
        term = leadership.lead(self.holder)
        if term is not None and term != self._term:
            logger.info("this process looks at schedules from now on (term %s)", term)
            ticks.refresh_zone_rules()
        self._term = term
        return term is not None
