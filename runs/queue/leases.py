"""Leases of runs: claim, renew, give back. All times are the database's."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from plumbing.database.dialect import is_postgresql
from plumbing.database.statements import prepared
from plumbing.database.transactions import retried
from pyflow.core.states import RunState
from runs.models import POISON_LOSSES, Run
from runs.queue.fair_share import Share, fair_share, oldest_of, queues_with_work
from runs.storage.values import Reference
from tenants.models import Tenant
from workflows.models import Version, Workflow

#: How often an executor shows that its event loop turns. Seconds.
PULSE_SECONDS = 1.0
#: So many executors lost with a run, one after the other and before a node completed, and it fails as ``worker_lost``.
#: With the last of them it was alone.
MAX_LOSSES = POISON_LOSSES + 1
#: So many runs that were left behind are asked for their queues; the others are found after these are claimed.
LOOKED_AT = 100
#: So many runs that were lost, and as many that are due, one claim queues again.
QUEUED_AT_ONCE = 1_000
#: A lease is not trusted to its very end: what is on its way to the database by then may arrive late. Seconds, at most.
MARGIN = 2.0


#: A run, and the epoch under which its executor holds it.
Lease = tuple[UUID, int]


@dataclass(frozen=True, slots=True)
class Claim:
    """A run that is ours while its lease lasts; ``epoch`` is the fencing token of every write."""

    run_id: UUID
    tenant_id: UUID
    tenant_slug: str
    workflow_name: str
    version_number: int
    checksum: str
    definition: str
    input: dict[str, Any]
    input_ref: Reference | None
    """Place of the input, if it is large; ``input`` is empty then."""
    epoch: int
    parent_id: UUID | None
    lineage: tuple[str, ...]
    cancel_requested: bool
    pause_requested: bool
    too_late: bool
    begun_at: float | None
    losses: int
    queue: str
    priority: int
    secrets_used: tuple[str, ...]
    log_lines: int
    log_characters: int
    is_new: bool
    """Nothing is on record of it but that it was queued."""


def stall_seconds() -> float:
    """Return the seconds after which a stalled event loop's executor is ended: others have its runs by then."""
    return 2.0 * float(settings.PYFLOW_LEASE_SECONDS)


def trusted_seconds() -> float:
    """Return the seconds, by its own clock, for which the holder relies on a lease after asking for it."""
    seconds = float(settings.PYFLOW_LEASE_SECONDS)
    return seconds - min(MARGIN, seconds / 5)


class Claims(list[Claim]):
    """The result of one claim, and whether another claim soon would take more runs."""

    def __init__(self, taken: Iterable[Claim] = (), *, overdue_left: bool = False, is_contended: bool = False) -> None:
        super().__init__(taken)
        #: More runs were lost or due than one claim queues again.
        self.overdue_left = overdue_left
        #: Another executor was claiming runs of a tenant with a limit, whose runs this claim therefore left out.
        self.is_contended = is_contended


@retried
def claim(
    owner: str,
    limit: int,
    run_id: UUID | None = None,
    active: Collection[UUID] = (),
    *,
    queues: Collection[str] | None = None,
    overdue: bool = True,
    poison_runs: bool = False,
) -> Claims:
    """Take up to ``limit`` queued runs (or only ``run_id`` and those below it), fairly between tenants.

    The result is exactly what one conditional ``UPDATE`` changed: no two executors ever get the same run, and none gets
    one twice. See ``fair_share`` for the order.

    ``active``: what ``owner`` executes already. Late with a renewal, it must not take its own runs over. ``queues``:
    whose runs to take; ``None``: all. ``overdue``: queue runs again before that which were lost, or wait and are due.
    ``poison_runs``: only those that a `quarantine` is for, which others leave alone.
    """
    if limit <= 0:
        return Claims()
    family = None if run_id is None else _family(run_id)
    overdue_left = overdue and _queue_overdue(active, queues, family)
    with transaction.atomic():
        if family is None:
            share = fair_share(limit, queues, active, poison_runs=poison_runs)
        else:
            share = Share(oldest_of(family - set(active), queues, limit))
        taken = {claimed.run_id: claimed for claimed in _begin(share.run_ids, owner)} if share.run_ids else {}
    in_order = [taken[run_id] for run_id in share.run_ids if run_id in taken]
    return Claims(in_order, overdue_left=overdue_left, is_contended=share.is_contended)


def _queue_overdue(active: Collection[UUID], queues: Collection[str] | None, only: Collection[UUID] | None) -> bool:
    """Queue runs again that were lost with their executor, or wait and are due; whether there may be more of them.

    They take their turns with all that is queued, so that no tenant's timers or losses delay another's runs. A
    transaction of its own: a crash after it loses nothing, and nobody waits for the claim that follows.
    """
    runs = Run.objects.across_tenants().exclude(pk__in=active)
    if queues is not None:
        runs = runs.filter(queue__in=queues)
    if only is not None:
        runs = runs.filter(pk__in=only)
    queued = {"state": RunState.QUEUED.value, "owner": "", "lease_until": None, "wake_at": None}
    with transaction.atomic():
        lost = _take(runs.filter(_lost()).order_by("lease_until"), QUEUED_AT_ONCE)
        if lost:  # a new epoch fences whatever the old owner still has on its way
            _among(lost).update(**queued, epoch=F("epoch") + 1, losses=F("losses") + 1)
        due = _take(runs.filter(_due()).order_by("wake_at"), QUEUED_AT_ONCE)
        if due:
            _among(due).update(**queued)
    return max(len(lost), len(due)) == QUEUED_AT_ONCE


def _begin(ids: Collection[UUID], owner: str) -> list[Claim]:
    """Make those of the runs that are queued ``owner``'s, and return exactly these."""
    if is_postgresql():
        with prepared() as cursor:
            cursor.execute(_BEGIN, [owner, settings.PYFLOW_LEASE_SECONDS, list(ids)])
            rows = [(_values(row), row[len(_CLAIMED) :]) for row in cursor.fetchall()]
        definitions = _definitions_of({values["version_id"] for values, _ in rows})
        return [_claim(values, names, definitions[values["version_id"]]) for values, names in rows]
    # The transaction is the only one that writes, from its begin on.
    queued = list(_among(ids).filter(state=RunState.QUEUED.value).values_list("pk", flat=True))
    runs = _among(queued)
    runs.update(
        state=RunState.RUNNING.value,
        owner=owner,
        lease_until=_lease_end(),
        wake_at=None,
        epoch=F("epoch") + 1,
        claims=F("claims") + 1,
    )
    taken = list(runs.select_related("version", "workflow", "tenant").only(*_CLAIMED, *_NAMES))
    definitions = _definitions_of({run.version_id for run in taken})
    for run in taken:
        run.version.definition = definitions[run.version_id]
    return [claim_of(run) for run in taken]


_definitions: OrderedDict[UUID, str] = OrderedDict()
#: So many definitions of versions are kept in memory: they are as large as their documents, and never change.
DEFINITIONS_KEPT = 256


def _definitions_of(versions: Collection[UUID]) -> dict[UUID, str]:
    """The definitions of versions, of which each is fetched once per process."""
    missing = {version for version in versions if version not in _definitions}
    if missing:
        rows = Version.objects.across_tenants().filter(pk__in=missing)
        _definitions.update(rows.values_list("pk", "definition"))
    found = {version: _definitions[version] for version in versions}
    for version in versions:
        _definitions.move_to_end(version)
    while len(_definitions) > DEFINITIONS_KEPT:
        _definitions.popitem(last=False)
    return found


def poison_runs_wait(queues: Collection[str] | None) -> bool:
    """Return whether poison runs of ``queues`` wait (``None``: of any). A look-up in an index of them."""
    poison_runs = Run.objects.across_tenants().filter(_poison())
    if queues is not None:
        poison_runs = poison_runs.filter(queue__in=queues)
    return poison_runs.filter(Q(state=RunState.QUEUED.value) | _due()).exists()


#: What a claim is made of: columns of the run, and of what it belongs to.
_CLAIMED = (
    "id",
    "tenant_id",
    "workflow_id",
    "version_id",
    "input",
    "input_ref",
    "epoch",
    "claims",
    "losses",
    "queue",
    "priority",
    "parent_id",
    "lineage",
    "cancel_requested_at",
    "pause_requested_at",
    "started_at",
    "event_seq",
    "log_lines",
    "log_characters",
    "secrets_used",
    "queue_deadline",
)
_NAMES = ("tenant__slug", "workflow__name", "version__number", "version__checksum")
_DOCUMENTS = frozenset({"input", "input_ref", "lineage", "secrets_used"})
#: The update and the reading in one statement (PostgreSQL). Names are the models' own.
_BEGIN = f"""
    UPDATE {Run._meta.db_table} run SET state = '{RunState.RUNNING.value}', owner = %s, wake_at = NULL,
        epoch = run.epoch + 1, claims = run.claims + 1, lease_until = statement_timestamp() + make_interval(secs => %s)
    FROM {Tenant._meta.db_table} tenant, {Workflow._meta.db_table} workflow, {Version._meta.db_table} version
    WHERE run.id = ANY(%s) AND run.state = '{RunState.QUEUED.value}'
        AND tenant.id = run.tenant_id AND workflow.id = run.workflow_id AND version.id = run.version_id
    RETURNING {", ".join(f"run.{name}" for name in _CLAIMED)}, {", ".join(name.replace("__", ".") for name in _NAMES)}
"""  # noqa: S608 - see above


def _values(row: Sequence[Any]) -> dict[str, Any]:
    values = dict(zip(_CLAIMED, row, strict=False))
    return values | {name: json.loads(values[name]) for name in _DOCUMENTS if values[name] is not None}


def _take(runs: QuerySet[Run], limit: int) -> list[UUID]:
    """Lock up to ``limit`` rows, passing over those that others have locked (SQLite: transactions take turns)."""
    locked = runs.select_for_update(no_key=True, skip_locked=connection.features.has_select_for_update_skip_locked)
    return list(locked.values_list("pk", flat=True)[:limit])


def _among(run_ids: Collection[UUID]) -> QuerySet[Run]:
    return Run.objects.across_tenants().filter(pk__in=run_ids)


def _lost() -> Q:
    """Runs whose executor stopped renewing its lease."""
    return Q(state=RunState.RUNNING.value, lease_until__lt=Now())


def _poison() -> Q:
    """Runs that may be why executors were lost with them."""
    return Q(losses=POISON_LOSSES)


def _due() -> Q:
    """Waiting runs whose time has come."""
    return Q(state=RunState.WAITING.value, wake_at__lte=Now())


def unclaimed_queues() -> set[str]:
    """The queues with runs that somebody should claim now. A few look-ups in indexes, however many runs wait."""
    runs = Run.objects.across_tenants()
    found = queues_with_work()
    for those, order in ((_lost(), "lease_until"), (_due(), "wake_at")):
        found.update(runs.filter(those).order_by(order).values_list("queue", flat=True)[:LOOKED_AT])
    return found


@retried
def renew(owner: str, leases: Collection[Lease]) -> set[UUID]:
    """Extend those of the leases that ``owner`` still holds, and return their runs; without waiting for anybody.

    A run that another transaction has locked is left out: see ``held_by``.
    """
    with transaction.atomic():
        kept = _under(leases, _unlocked(_held_rows(owner, leases)))
        Run.objects.across_tenants().filter(pk__in=kept).update(lease_until=_lease_end())
    return kept


@retried
def release(owner: str, leases: Collection[Lease]) -> set[UUID]:
    """Hand runs back unfinished: they are queued again at once. Returns those that ``owner`` still held.

    A run that ``owner`` has lost and claimed again meanwhile is kept: its new epoch is another lease. One that another
    transaction has locked is left out: see ``held_by``.
    """
    with transaction.atomic():
        held = _under(leases, _unlocked(_held_rows(owner, leases)))
        # A new epoch fences whatever the old owner still has on its way.
        runs = Run.objects.across_tenants().filter(pk__in=held)
        runs.update(state=RunState.QUEUED.value, owner="", lease_until=None, epoch=F("epoch") + 1)
    return held


def clear_losses(run_ids: Collection[UUID]) -> None:
    """Take a loss back from runs that others took over while their executor was cut off or frozen: it lives."""
    lost = Run.objects.across_tenants().filter(pk__in=run_ids, losses__gt=0, finished_at=None)
    lost.update(losses=F("losses") - 1)


def held_by(owner: str, leases: Collection[Lease]) -> set[UUID]:
    """The runs of those of the leases that ``owner`` holds, as far as it is committed."""
    return _under(leases, _held_rows(owner, leases))


def _held_rows(owner: str, leases: Collection[Lease]) -> QuerySet[Run]:
    run_ids = [run_id for run_id, _ in leases]
    return Run.objects.across_tenants().filter(pk__in=run_ids, owner=owner, state=RunState.RUNNING.value)


def _unlocked(rows: QuerySet[Run]) -> QuerySet[Run]:
    """Lock those of the rows that no other transaction has locked."""
    skip = connection.features.has_select_for_update_skip_locked
    return rows.select_for_update(no_key=True, skip_locked=skip).order_by("pk")


def _under(leases: Collection[Lease], rows: QuerySet[Run]) -> set[UUID]:
    """The runs among ``rows`` whose epoch is that of their lease."""
    return {run_id for run_id, epoch in rows.values_list("pk", "epoch") if (run_id, epoch) in leases}


def _family(run_id: UUID) -> set[UUID]:
    """A run and all below it."""
    family, generation = {run_id}, {run_id}
    while generation:
        children = Run.objects.across_tenants().filter(parent__in=generation)
        generation = set(children.values_list("pk", flat=True)) - family
        family |= generation
    return family


def _lease_end() -> Any:
    return Now() + timedelta(seconds=settings.PYFLOW_LEASE_SECONDS)


def claim_of(run: Run) -> Claim:
    """Return the data that an executor needs of a run, with its version, workflow and tenant."""
    names = run.tenant.slug, run.workflow.name, run.version.number, run.version.checksum
    return _claim(vars(run), names, run.version.definition)


def _claim(run: Mapping[str, Any], names: tuple[str, str, int, str], definition: str) -> Claim:
    tenant_slug, workflow_name, version_number, checksum = names
    begun_at, deadline = run["started_at"], run["queue_deadline"]
    return Claim(
        run_id=run["id"],
        tenant_id=run["tenant_id"],
        tenant_slug=tenant_slug,
        workflow_name=workflow_name,
        version_number=version_number,
        checksum=checksum,
        definition=definition,
        input=run["input"],
        input_ref=Reference.of(run["input_ref"]),
        epoch=run["epoch"],
        parent_id=run["parent_id"],
        lineage=tuple(run["lineage"]),
        secrets_used=tuple(run["secrets_used"]),
        log_lines=run["log_lines"],
        log_characters=run["log_characters"],
        is_new=run["event_seq"] == 1 and run["claims"] == 1,
        cancel_requested=run["cancel_requested_at"] is not None,
        pause_requested=run["pause_requested_at"] is not None,
        begun_at=None if begun_at is None else begun_at.timestamp(),
        losses=run["losses"],
        queue=run["queue"],
        priority=run["priority"],
        too_late=begun_at is None and deadline is not None and deadline < timezone.now(),
    )
