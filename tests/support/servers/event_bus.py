"""Event buses for tests, a subscriber that takes notes, and which one this process uses."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyflow.core.bus import MemoryBus
from pyflow.core.ports import Notification
from runs.notify.current import using
from runs.notify.notifications import Notifications
from runs.notify.timing import Timing

#: For tests that do not wait for what a process looks at now and then.
NEVER = 600.0
QUICK = Timing(start_delay=0.0, first_backoff=0.01, last_backoff=0.05, poll=0.1, look=NEVER, idle=0.1)
"""Everything that is waited for is waited for shortly, and nobody looks without a notification."""


class Notes:
    """A subscriber that keeps what it is called with."""

    def __init__(self) -> None:
        self.taken: list[Notification] = []

    def __call__(self, notification: Notification) -> None:
        self.taken.append(notification)

    def __contains__(self, notification: Notification) -> bool:
        return notification in self.taken


class PlainBus:
    """A bus with no more than the protocol asks for."""

    def __init__(self) -> None:
        bus = MemoryBus()
        self.publish, self.subscribe, self.flush = bus.publish, bus.subscribe, bus.flush


@contextmanager
def in_one_process() -> Iterator[MemoryBus]:
    """Let this process notify only itself, as the single-node server does."""
    bus = MemoryBus()
    with using(Notifications(bus)):
        yield bus
