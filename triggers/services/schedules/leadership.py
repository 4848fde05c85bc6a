"""The lease of the process that looks at schedules: one at a time does the work, another one takes over when it stops.

Nothing depends on it but the work that is saved: a process that was frozen and goes on looking at schedules fires no
slot twice (``ticks``).
"""

from __future__ import annotations

from datetime import timedelta

from django.db.models import F, Q
from django.db.models.functions import Now

from triggers.models.schedules import TickerLease

#: Seconds. With ``RENEW_SECONDS``, a leader that is lost is replaced within 10 s.
LEASE_SECONDS = 6.0
RENEW_SECONDS = 2.0


def lead(holder: str) -> int | None:
    """Take or renew the lease by the clock of the database; the term, or ``None`` while another one has it."""
    until = Now() + timedelta(seconds=LEASE_SECONDS)
    lease = TickerLease.objects.filter(pk=1)
    if lease.filter(holder=holder, until__gt=Now()).update(until=until):
        return lease.values_list("term", flat=True).first()
    free = Q(until__isnull=True) | Q(until__lte=Now())
    if lease.filter(free).update(holder=holder, term=F("term") + 1, until=until):
        return lease.values_list("term", flat=True).first()
    TickerLease.objects.bulk_create([TickerLease(pk=1)], ignore_conflicts=True)
    return None


def resign(holder: str) -> None:
    """Give the lease back, so that another process takes over at once."""
    TickerLease.objects.filter(pk=1, holder=holder).update(until=None)
