"""The event bus and the notifications of this process: the one place where the settings choose them."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django.conf import settings
from django.utils.module_loading import import_string

from pyflow.core.forks import renew_in_children
from pyflow.core.ports import EventBus
from runs.notify.notifications import EXIT_SECONDS, Notifications
from runs.notify.workers import CeleryWorkers


class _Current:
    """The notifications of this process, made when they are first needed."""

    def __init__(self) -> None:
        self.chosen: Notifications | None = None
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Make the lock anew, in a forked child."""
        self._lock = threading.Lock()

    def get(self) -> Notifications:
        if self.chosen is None:
            with self._lock:
                if self.chosen is None:  # another thread may have been first
                    self.chosen = of_settings()
        return self.chosen


def notifications() -> Notifications:
    """Return the notifications of this process."""
    return _current.get()


def current_bus() -> EventBus:
    """Return the event bus of this process: what the factory that ``PYFLOW_EVENT_BUS`` names has made."""
    return notifications().bus


@contextmanager
def using(other: Notifications) -> Iterator[Notifications]:
    """Use other notifications in this process for a while."""
    before, _current.chosen = _current.chosen, other
    try:
        yield other
    finally:
        _current.chosen = before


def of_settings() -> Notifications:
    """Return notifications over the bus that ``PYFLOW_EVENT_BUS`` names, for the workers of ``PYFLOW_EXECUTOR``."""
    bus = import_string(settings.PYFLOW_EVENT_BUS)()
    return Notifications(bus, CeleryWorkers() if settings.PYFLOW_EXECUTOR == "celery" else None)


def _flush_at_exit() -> None:
    if _current.chosen is not None:
        with suppress(RuntimeError):  # a thread can no longer be waited for
            _current.chosen.flush(EXIT_SECONDS)


_current = _Current()
atexit.register(_flush_at_exit)
