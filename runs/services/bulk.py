"""Apply one verb to many runs: one result per run, a few runs in each transaction."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from plumbing.database import locks
from pyflow.core.errors import PyFlowError
from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from runs.errors import RunNotFoundError
from runs.models import Run, RunQuerySet
from runs.services.cancel import cancel_run
from runs.services.locks import lock_families, lock_with_parents
from runs.services.pause import pause_run, resume_run
from runs.services.retry import retry_run
from runs.services.terminate import terminate_run
from tenants.access import Actor, Permission, Principal
from tenants.errors import ForbiddenError
from tenants.grants import shared_with
from workflows.models import Workflow

#: How many runs one request acts on.
MOST_RUNS = 100
#: How many of them are changed in one transaction: they and the tenant's audit stay locked until the last one is done.
BATCH = 10


class Action(StrEnum):
    """Actions on many runs at once."""

    CANCEL = "cancel"
    TERMINATE = "terminate"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"


_VERBS: Mapping[Action, Callable[..., Run]] = {
    Action.CANCEL: cancel_run,
    Action.TERMINATE: terminate_run,
    Action.PAUSE: pause_run,
    Action.RESUME: resume_run,
    Action.RETRY: retry_run,
}
_LIVES = ~Q(state__in=TERMINAL_RUN_STATES)
_NOT_ASKED_TO_STOP = Q(cancel_requested_at__isnull=True)
#: Which runs an action would change: those for which it is possible, and that were not asked before.
_CHANGED: Mapping[Action, Q] = {
    Action.CANCEL: _LIVES & _NOT_ASKED_TO_STOP,
    Action.TERMINATE: _LIVES,
    Action.PAUSE: _LIVES & _NOT_ASKED_TO_STOP & Q(pause_requested_at__isnull=True),
    Action.RESUME: _LIVES & Q(pause_requested_at__isnull=False),
    Action.RETRY: Q(state__in=TERMINAL_RUN_STATES - {RunState.SUCCEEDED}),
}


def writable_workflows(principal: Principal) -> set[UUID] | None:
    """The workflows whose runs somebody may act on; ``None``: all of the tenant.

    Raises ``ForbiddenError`` if that is none.
    """
    if principal.may(Permission.RUNS_WRITE):
        return None
    shared = shared_with(principal, Workflow, Permission.RUNS_WRITE)
    if not shared:
        raise ForbiddenError(f"Neither the role `{principal.role}` nor a grant has the permission `runs:write`.")
    return shared


def select(
    rows: RunQuerySet, action: Action, *, after: UUID | None, limit: int, workflows: Collection[UUID] | None
) -> tuple[list[UUID], bool]:
    """The first of the rows that the action would change, by id and beyond ``after``, and whether there are more."""
    rows = rows.filter(_CHANGED[action])
    if workflows is not None:
        rows = rows.filter(workflow__in=workflows)
    if after is not None:
        rows = rows.filter(pk__gt=after)
    found = list(rows.order_by("pk").values_list("pk", flat=True)[: limit + 1])
    return found[:limit], len(found) > limit


@transaction.atomic
def act_on_runs(
    *, by: Actor, action: Action, run_ids: Sequence[UUID], workflows: Collection[UUID] | None
) -> list[Run | PyFlowError]:
    """Ask the same of up to ``BATCH`` runs: what became of each, in their order.

    Of a tenant's batches one is done at a time: the next one waits for it before it has locked any run. One that
    refuses keeps no other from being asked; each that is changed has its own entry in the audit. ``workflows`` are
    those whose runs may be acted on (``None``: all).
    """
    _take_turns(by.tenant_id)
    # A retry takes up child runs in its transaction; nothing else needs what is below.
    known = (lock_families if action is Action.RETRY else lock_with_parents)(by.tenant_id, run_ids)
    outcomes: dict[UUID, Run | PyFlowError] = {}
    for run_id in run_ids:
        if run_id not in known:
            outcomes[run_id] = RunNotFoundError(f"There is no run {run_id}.")
        elif workflows is not None and known[run_id] not in workflows:
            outcomes[run_id] = ForbiddenError("This needs a grant of the level `run` on the run's workflow.")
        elif run_id not in outcomes:
            outcomes[run_id] = _outcome(_VERBS[action], by, run_id)
    return [outcomes[run_id] for run_id in run_ids]


def _take_turns(tenant_id: UUID) -> None:
    locks.lock(f"actions {tenant_id}")


def _outcome(verb: Callable[..., Run], by: Actor, run_id: UUID) -> Run | PyFlowError:
    try:
        return verb(by=by, run_id=run_id)
    except PyFlowError as error:
        return error
