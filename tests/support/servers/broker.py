"""The broker and the event bus that this process publishes to."""

from collections.abc import Iterator
from contextlib import contextmanager

from kombu import pools

from pyflow_site.celery import app
from runs.notify.current import using
from runs.notify.notifications import Notifications
from runs.notify.redis_bus import RedisBus
from runs.notify.timing import Timing
from runs.notify.workers import CeleryWorkers


@contextmanager
def publishing_to(url: str, timing: Timing | None = None) -> Iterator[Notifications]:
    """Send this process's messages and notifications to another broker for a while, as processes of a fleet do."""
    before, bus = app.conf.broker_url, RedisBus(url, timing)
    try:
        _use(url)
        with using(Notifications(bus, CeleryWorkers())) as notifications:
            yield notifications
    finally:
        bus.close()
        _use(before)


def _use(url: str) -> None:
    app.conf.update(broker_url=url)
    # Connections to the other one are kept in three places.
    pools.reset()
    vars(app)["_pool"] = None
    vars(app.amqp)["_producer_pool"] = None
