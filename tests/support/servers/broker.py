"""Which broker this process publishes to."""

from collections.abc import Iterator
from contextlib import contextmanager

from kombu import pools

from pyflow_site.celery import app


@contextmanager
def publishing_to(url: str) -> Iterator[None]:
    """Send this process's messages to another broker for a while."""
    before = app.conf.broker_url
    try:
        _use(url)
        yield
    finally:
        _use(before)


def _use(url: str) -> None:
    app.conf.update(broker_url=url)
    # Connections to the other one are kept in three places.
    pools.reset()
    vars(app)["_pool"] = None
    vars(app.amqp)["_producer_pool"] = None
