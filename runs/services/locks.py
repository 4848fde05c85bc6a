"""Lock the rows of runs and of their families, in the one order that cannot deadlock."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.db import transaction

from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from runs.errors import RunFinishedError, RunNotFoundError
from runs.models import Run


def lock_run(tenant_id: UUID, run_id: UUID) -> Run:
    """A run that is to be changed in this transaction. Raises ``RunNotFoundError`` or ``RunFinishedError``."""
    run = lock_any_run(tenant_id, run_id)
    if run.state in TERMINAL_RUN_STATES:
        raise has_ended(run)
    return run


def keep_run(*, tenant_id: UUID, run_id: UUID) -> None:
    """Have nobody remove a run until this transaction ends. Raises ``RunNotFoundError``."""
    rows = Run.objects.for_tenant(tenant_id).filter(pk=run_id).select_for_update(no_key=True)
    if not rows.values_list("pk").first():
        raise RunNotFoundError(f"There is no run {run_id}.")


def has_ended(run: Run) -> RunFinishedError:
    """Return the error for a request that needs a run that has not ended."""
    state = RunState(run.state)
    return RunFinishedError(state, f"The run has ended already, as {state}.")


def lock_any_run(tenant_id: UUID, run_id: UUID) -> Run:
    """Lock a run as ``lock_run`` does, whether or not it has ended."""
    rows = Run.objects.for_tenant(tenant_id).with_names().select_for_update(of=("self",), no_key=True)
    run = rows.filter(pk=run_id).first()
    if run is None:
        raise RunNotFoundError(f"There is no run {run_id}.")
    return run


def lock_with_parents(tenant_id: UUID, run_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Lock runs of a tenant with their parents, in the order that writers keep; the workflow of each of ``run_ids``."""
    runs = Run.objects.for_tenant(tenant_id)
    asked = set(run_ids)
    parents = runs.filter(pk__in=asked, parent__isnull=False).order_by().values_list("parent_id", flat=True)
    rows = runs.filter(pk__in=asked.union(parents)).order_by("pk").select_for_update(no_key=True)
    return {pk: workflow for pk, workflow in rows.values_list("pk", "workflow") if pk in asked}


def lock_families(tenant_id: UUID, run_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Lock runs of a tenant with all above and below them that a verb may lock; the workflow of each of ``run_ids``.

    In the order that writers keep, too, and before the first entry of the audit, which everybody writes last: or two
    transactions could wait for each other.
    """
    asked = set(run_ids)
    while True:
        family = _families(tenant_id, asked)
        rows = Run.objects.for_tenant(tenant_id).filter(pk__in=family).order_by("pk").select_for_update(no_key=True)
        with transaction.atomic():
            known = {pk: workflow for pk, workflow in rows.values_list("pk", "workflow") if pk in asked}
            # A locked run starts no child, yet one may have done so before it was locked: that is locked in its place,
            # for which the others are let go.
            if _families(tenant_id, asked) <= family:
                return known
            transaction.set_rollback(True)


def _families(tenant_id: UUID, run_ids: set[UUID]) -> set[UUID]:
    """Runs, all that are below them, and their parents."""
    runs = Run.objects.for_tenant(tenant_id).order_by()
    family, generation = set(run_ids), run_ids
    while generation:
        generation = set(runs.filter(parent__in=generation).values_list("pk", flat=True)) - family
        family |= generation
    return family | set(runs.filter(pk__in=run_ids, parent__isnull=False).values_list("parent_id", flat=True))
