"""Deletes expired rows of all tenants: answers to idempotent requests, refresh tokens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import connection, models, transaction
from django.utils import timezone

from tenants.models import IdempotentAnswer, RefreshToken

#: How long the answer to a request with an ``Idempotency-Key`` is repeated.
ANSWERS_KEPT = timedelta(hours=24)
#: So many rows are removed in one transaction.
BATCH = 500


def prune_traces(*, dry_run: bool = False) -> dict[str, int]:
    """Remove answers whose keys are free again and refresh tokens that have expired, of all tenants; how many of each.

    Expired tokens are refused whether or not they are there.
    """
    now = timezone.now()
    rows = {
        "answers": IdempotentAnswer.objects.across_tenants().filter(created_at__lt=now - ANSWERS_KEPT),
        "refresh_tokens": RefreshToken.objects.across_tenants().filter(expires_at__lt=now),
    }
    return {name: found.count() if dry_run else sum(_removed(found)) for name, found in rows.items()}


def _removed(rows: models.QuerySet[Any]) -> Iterator[int]:
    """Remove rows in small transactions, passing over those that are in use; how many each has removed."""
    skip = connection.features.has_select_for_update_skip_locked
    count = BATCH
    while count == BATCH:
        with transaction.atomic():
            ids = list(
                rows.select_for_update(skip_locked=skip, no_key=True)
                .order_by("pk")
                .values_list("pk", flat=True)[:BATCH]
            )
            count = len(ids)
            rows.filter(pk__in=ids).delete()
        yield count
