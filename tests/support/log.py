"""The log of events, as its readers find it."""

from collections.abc import Sequence

from django.db import connection

from runs.models import EventRecord
from runs.storage import log
from tests.support import waiting


def readable(events: Sequence[EventRecord]) -> None:
    """Wait until readers get to committed events: an older transaction, such as autovacuum's, keeps them back.

    Inside a transaction nothing can be waited for.
    """
    if not connection.in_atomic_block:
        newest = max(event.position for event in events)
        waiting.until(lambda: log.horizon() > newest, what="a log without older transactions")
