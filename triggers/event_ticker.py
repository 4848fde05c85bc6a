"""Advances event triggers: a thread that looks when events are published, and regularly.

It runs beside the scheduler: in the server's process in the single-node shape, and in celery-beat's in a fleet. There
may be several, since each trigger is locked while it is advanced.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from uuid import UUID

from django.db import DatabaseError, connections

from pyflow.core.ports import Notification, Subscription
from runs.notify.current import current_bus
from runs.notify.notifications import events_topic
from triggers.services.events.advance import advance_due
from triggers.services.events.rows import tenants_with_event_triggers

logger = logging.getLogger(__name__)
#: Seconds after which it looks without a notification: one may be lost, and expectations and failures come due.
LOOK_SECONDS = 0.5
#: Seconds within which notifications make one look.
GATHER_SECONDS = 0.02
#: Seconds after which the tenants that have triggers are looked up again.
SUBSCRIBE_SECONDS = 5.0
#: What did not work, because the database did not answer, is tried again after so many seconds.
RETRY_SECONDS = 1.0


class EventTicker:
    """Advances event triggers on a thread of its own, from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._work, name="pyflow-event-triggers", daemon=True)
        self._stopped = False
        #: Set by notifications and by ``stop``.
        self._woken = threading.Event()
        self._subscription: Subscription | None = None
        self._tenants: frozenset[UUID] = frozenset()
        self._subscribe_at = 0.0

    def start(self) -> None:
        """Begin; the thread ends with the process, or by ``stop``."""
        self._thread.start()
        atexit.register(self.stop)

    def stop(self, timeout: float = 5.0) -> None:
        """End the thread, waiting up to ``timeout`` seconds."""
        self._stopped = True
        self._woken.set()
        self._thread.join(timeout)
        atexit.unregister(self.stop)

    def _work(self) -> None:
        while not self._stopped:
            pause = LOOK_SECONDS
            self._woken.clear()
            try:
                self._subscribe()
                advance_due()
            except DatabaseError as error:
                logger.warning("event triggers cannot be advanced for now: %s", error)
                pause = RETRY_SECONDS
                connections.close_all()
            except Exception:  # a mistake of ours must not end the thread, and with it all event triggers
                logger.exception("event triggers could not be advanced, and are advanced later")
                pause = RETRY_SECONDS
            if self._woken.wait(pause) and not self._stopped:
                time.sleep(GATHER_SECONDS)
        if self._subscription is not None:
            self._subscription.close()
        connections.close_all()

    def _subscribe(self) -> None:
        """Subscribe to the events of the tenants that have triggers; the others' wake nothing."""
        if time.monotonic() < self._subscribe_at:
            return
        self._subscribe_at = time.monotonic() + SUBSCRIBE_SECONDS
        tenants = tenants_with_event_triggers()
        if tenants == self._tenants:
            return
        before, self._tenants = self._subscription, tenants
        self._subscription = current_bus().subscribe([*map(events_topic, tenants)], self._wake) if tenants else None
        if before is not None:
            before.close()

    def _wake(self, _: Notification) -> None:
        self._woken.set()
