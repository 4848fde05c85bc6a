"""Counts requests to inbound webhooks that were not authentic, apart from their answers.

A refusal is answered before it is counted, by a thread of its own: the answer takes as long for a webhook that exists
as for one that does not. An entry of the audit is written at most once an hour for each webhook.
"""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections import Counter
from collections.abc import Mapping
from functools import partial
from uuid import UUID

from django.db import connections, transaction
from django.db.models import F
from django.utils import timezone

from pyflow.core.forks import renew_in_children
from runs.notify.outbox import Outbox
from tenants import audit
from tenants.access import Actor
from tenants.errors import RateLimitedError
from tenants.limits import MINUTE, limiter
from tenants.scoping import tenant_scope
from triggers.models import InboundHook

logger = logging.getLogger(__name__)
#: Refused requests a minute of one address; beyond, its requests are not looked at.
PER_CLIENT = 60
#: Seconds between two entries of the audit about one webhook.
AUDIT_SECONDS = 3600
#: Seconds within which refusals are counted by one statement.
GATHER_SECONDS = 1.0

_Whose = tuple[UUID, UUID]


class Refusals:
    """Refusals of this process that are not written to their rows yet."""

    def __init__(self) -> None:
        self._outbox: Outbox[_Whose, str] = Outbox("pyflow-refusals", self._write, GATHER_SECONDS)
        self.renew()
        renew_in_children(self)

    def renew(self) -> None:
        """Start with nothing, in a forked child."""
        self._lock = threading.Lock()
        self._counts: Counter[_Whose] = Counter()

    def count(self, hook: InboundHook, client: str) -> None:
        """Count one refusal of a webhook soon."""
        transaction.on_commit(partial(self._put, (hook.tenant_id, hook.pk), client))

    def flush(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until all refusals are written; return whether they are."""
        return self._outbox.flush(timeout)

    def _put(self, whose: _Whose, client: str) -> None:
        with self._lock:
            self._counts[whose] += 1
        self._outbox.put(whose, client)

    def _write(self, batch: Mapping[_Whose, str | None]) -> None:
        for whose, client in batch.items():
            with self._lock:
                count = self._counts.pop(whose, 0)
            try:
                _record(*whose, count, client or "")
            except Exception:  # this thread counts for the whole process, and must go on
                logger.exception("%d refused requests of an inbound webhook are not counted", count)
        connections.close_all()


def _record(tenant_id: UUID, hook_id: UUID, count: int, client: str) -> None:
    with tenant_scope(tenant_id, write=True):
        rows = InboundHook.objects.for_tenant(tenant_id).filter(pk=hook_id)
        rows.update(refused=F("refused") + count, refused_at=timezone.now())
        hook = rows.first()
        if hook is None or not limiter.hit(f"hooks:audit:{hook_id}", 1, AUDIT_SECONDS).allowed:
            return
        by = Actor.system(tenant_id, "webhook")
        after = {"path": hook.path, "refused": hook.refused, "address": client}
        audit.record(by=by, action="hook.refused", target=f"hook:{hook.pk}", after=after)


refusals = Refusals()


def admit_client(client: str) -> None:
    """Raise ``RateLimitedError`` for an address that too many refused requests came from within a minute."""
    if not client:
        return
    verdict = limiter.peek(_client_key(client), PER_CLIENT, MINUTE)
    if not verdict.allowed:
        raise RateLimitedError(
            "Too many requests from this address were refused within a minute.",
            retry_after=max(1, math.ceil(verdict.reset)),
        )


def charge_client(client: str) -> None:
    """Count a refused request against its address."""
    if client:
        limiter.hit(_client_key(client), PER_CLIENT, MINUTE)


def _client_key(client: str) -> str:
    return f"hooks:refused:{hashlib.sha256(client.encode()).hexdigest()}"
