"""Removes runs for good, with everything that is theirs."""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import cache
from typing import Any
from uuid import UUID

from django.db import models, transaction

from runs.models import EventRecord, Run
from runs.storage import log, values
from runs.storage.values import Owner
from tenants.plans import Quota
from tenants.quotas import add_stored_bytes, count_apart
from tenants.scoping import TenantOwned

logger = logging.getLogger(__name__)


def remove_runs(*, tenant_id: UUID, run_ids: Collection[UUID], apart: bool = False) -> int:
    """Remove runs of a tenant in the current transaction, a statement for each table; how many there were.

    Their large values go once that is committed. What they count for in the quota of stored bytes is given back before
    the rows are deleted (``database.transactions``) or, ``apart``, afterwards, when nothing but the commit follows:
    that waits for nobody (see ``quotas.count_apart``).
    """
    runs = Run.objects.for_tenant(tenant_id).filter(pk__in=run_ids)
    found = list(runs.only("pk", "tenant_id", "input", "input_ref", "value_bytes"))
    amount = -sum(run.stored_bytes for run in found)
    if not apart:
        add_stored_bytes(tenant_id=tenant_id, amount=amount)
    of_runs = {"run__in": [run.pk for run in found]}
    log.remember_removal(tenant_id, EventRecord.objects.for_tenant(tenant_id).filter(**of_runs))
    for model in _parts():
        model.objects.for_tenant(tenant_id).filter(**of_runs).delete()
    runs.only("pk").delete()
    if apart:
        count_apart(tenant_id=tenant_id, quota=Quota.STORED_BYTES, amount=amount)
    stored = [Owner(tenant_id, run.pk) for run in found if run.input_ref is not None or run.value_bytes]
    if stored:
        transaction.on_commit(lambda: remove_values(stored), robust=True)
    return len(found)


def remove_values(owners: Collection[Owner]) -> None:
    """Remove the large values of runs that are gone; what the storage does not let go of, a later prune finds."""
    for owner in owners:
        try:
            values.store().delete_all(owner)
        except OSError as error:
            logger.warning("the values of run %s, which is gone, could not be removed: %s", owner.run_id, error)


@cache
def _parts() -> list[type[TenantOwned]]:
    """The models of what belongs to a run: what its deletion would take along, row by row."""
    relations: list[Any] = list(Run._meta.related_objects)
    return [relation.related_model for relation in relations if relation.on_delete is models.CASCADE]
