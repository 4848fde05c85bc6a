"""Slots of concurrency keys, as rows: who holds one and who waits for one, whatever worker executes it.

Everything about a key is decided under the lock of the key, so no two decisions are taken on one count. Who has locked
the row of a run never asks for the lock of a key, or two could wait for each other: a slot is given back in a
transaction of its own, after the one in which its run has ended. If nobody is left to do it, ``reconcile`` does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import overload
from uuid import UUID

from django.db import transaction
from django.db.models import Case, Count, F, OuterRef, Q, QuerySet, Subquery, Value, When, Window
from django.db.models.functions import Coalesce, RowNumber
from django.utils import timezone

from plumbing.database import locks
from plumbing.database.transactions import retried
from pyflow.core.ids import new_uuid
from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from runs.errors import FencedError
from runs.models import Run, Slot
from runs.notify.current import notifications
from runs.queue.fence import check_epoch

#: So many keys with slots that nobody holds any more are looked after at a time.
RECONCILED_AT_ONCE = 100
#: Maximum number of slots of a run, and of holders of each, that ``places_of`` returns.
MOST_PLACES, MOST_HOLDERS = 100, 20


class Verdict(Enum):
    """Results of a request for a slot."""

    HELD = "held"
    WAITING = "waiting"
    SKIPPED = "skipped"
    REFUSED = "refused"


#: What was said to one that has a slot, or waits for one.
_VERDICT = {True: Verdict.HELD, False: Verdict.WAITING}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A request for a slot, by a run or by a node of a run that is executed under ``run_epoch``."""

    tenant_id: UUID
    run_id: UUID
    key: str
    limit: int
    on_limit: str
    priority: int
    node_id: str = ""
    run_epoch: int | None = None
    id: UUID = field(default_factory=new_uuid)

    @property
    def lane(self) -> str:
        """Return the name of the key's rows, however long the key is; keys of runs and of nodes differ."""
        kind = "run" if self.run_epoch is None else "node"
        return hashlib.sha256(f"{kind}\0{self.key}".encode(errors="surrogatepass")).hexdigest()


@retried
def enter(ticket: Ticket) -> Verdict:
    """Ask for a slot for an attempt of a node. One that waits gets it later: its run's executor is notified.

    Raises ``FencedError`` if the run is not executed under the ticket's epoch any more: it makes nobody give way.
    """
    assert ticket.run_epoch is not None  # noqa: S101 - that of a run asks `enter_run`
    with transaction.atomic():
        lane = _locked_lane(ticket.tenant_id, ticket.lane)
        check_epoch(ticket.run_id, ticket.run_epoch)
        # Asked again after the answer was lost, it has its place.
        known = lane.filter(pk=ticket.id).values_list("held", flat=True).first()
        return _enter(ticket, lane) if known is None else _VERDICT[known]


@retried
def enter_run(ticket: Ticket, epoch: int) -> Verdict:
    """Ask for the slot of a run that is executed under ``epoch``; asking again finds what was said before.

    A run that has to wait is parked in the same transaction, and queued again when it gets its slot or when the time
    is over in which it had to start. Raises ``FencedError`` if it is another executor's by then.
    """
    asked = Slot.objects.for_tenant(ticket.tenant_id).filter(run=ticket.run_id, run_epoch__isnull=True)
    # Its key may depend on the time: what it was when the run first asked for it counts.
    known = asked.values_list("lane", flat=True).first()
    with transaction.atomic():
        lane = _locked_lane(ticket.tenant_id, known or ticket.lane)
        check_epoch(ticket.run_id, epoch)
        held = asked.values_list("held", flat=True).first()
        verdict = _enter(ticket, lane) if held is None else _VERDICT[held]
        if verdict is Verdict.WAITING:
            _park(ticket.run_id, epoch)
        return verdict


@retried
def leave(ticket: Ticket) -> None:
    """Give the slot of a node back, or wait for it no more."""
    with transaction.atomic():
        lane = _locked_lane(ticket.tenant_id, ticket.lane)
        if lane.filter(pk=ticket.id).delete()[0]:
            _promote(lane)


@retried
def leave_run(run_id: UUID) -> None:
    """Give the slot of a run back that has ended; without one, nothing happens. Not within another transaction."""
    asked = Slot.objects.across_tenants().filter(run=run_id, run_epoch__isnull=True)
    known = asked.values_list("tenant_id", "lane").first()
    if known is None:
        return
    with transaction.atomic():
        lane = _locked_lane(*known)
        if asked.filter(run__state__in=TERMINAL_RUN_STATES).delete()[0]:
            _promote(lane)


def states_of_tickets(tickets: Collection[UUID]) -> dict[UUID, tuple[bool, bool]]:
    """Of tickets of nodes: whether each holds a slot, and whether it was asked to make room."""
    rows = Slot.objects.across_tenants().filter(pk__in=tickets).values_list("pk", "held", "displaced")
    return {pk: (held, displaced) for pk, held, displaced in rows}


def displaced_runs(run_ids: Collection[UUID]) -> dict[UUID, str]:
    """Return the runs that were asked to make room for newer ones, with their keys."""
    rows = Slot.objects.across_tenants().filter(run__in=run_ids, run_epoch__isnull=True, displaced=True)
    return dict(rows.values_list("run_id", "key"))


def reconcile() -> int:
    """Free the slots of runs that have ended and of executors that have lost their runs. Returns how many keys had any.

    Any process may do it, at any time. Keys that another transaction has locked are left to a later sweep: this one is
    part of claims, for which everybody's runs wait.
    """
    dead = Slot.objects.across_tenants().filter(_dead(), held=True).order_by().values_list("tenant_id", "lane")
    lanes = set(dead.distinct()[:RECONCILED_AT_ONCE])
    return sum(_reconcile(tenant_id, name) for tenant_id, name in sorted(lanes))


@retried
def _reconcile(tenant_id: UUID, name: str) -> bool:
    with transaction.atomic():
        lane = _locked_lane(tenant_id, name, wait=False)
        if lane is None:
            return False
        _free_dead(lane.filter(held=True))
        _promote(lane)
    return True


@dataclass(frozen=True, slots=True)
class Holder:
    """The holder of a slot: a run, or (``node_id``) a node of it."""

    run_id: UUID
    node_id: str
    since: datetime


@dataclass(frozen=True, slots=True)
class SlotPlace:
    """The place of a run or node at a key. ``ahead``: how many get a slot first; ``None`` if it holds one.

    ``held`` of ``limit`` slots are held; ``holders`` are the first ``MOST_HOLDERS`` of those who hold one that it waits
    for.
    """

    node_id: str
    key: str
    limit: int
    since: datetime
    ahead: int | None
    held: int
    holders: list[Holder]


def places_of(*, tenant_id: UUID, run_id: UUID) -> list[SlotPlace]:
    """The slots that a run and its nodes hold or wait for, ``MOST_PLACES`` at most, and who holds those waited for."""
    slots = Slot.objects.for_tenant(tenant_id)
    lane = slots.filter(lane=OuterRef("lane")).order_by()
    before = Q(priority__gt=OuterRef("priority")) | Q(priority=OuterRef("priority"), pk__lt=OuterRef("pk"))
    # Of the run itself first, and of the nodes those that wait.
    asked = slots.filter(run=run_id).order_by(F("run_epoch").asc(nulls_first=True), "held", "id")
    rows = list(
        asked.annotate(ahead=_count(lane.filter(before, held=False)), holding=_count(lane.filter(held=True)))[
            :MOST_PLACES
        ]
    )
    lanes = {row.lane for row in rows if not row.held}
    holders: dict[str, list[Holder]] = {name: [] for name in lanes}
    if lanes:
        place = Window(RowNumber(), partition_by=[F("lane")], order_by=[F("id")])
        first = slots.filter(lane__in=lanes, held=True).annotate(place=place).filter(place__lte=MOST_HOLDERS)
        for row in first.order_by("id").only("lane", "run_id", "node_id", "since"):
            holders[row.lane].append(Holder(row.run_id, row.node_id, row.since))
    return [
        SlotPlace(
            row.node_id,
            row.key,
            row.limit,
            row.since,
            None if row.held else row.ahead,
            row.holding,
            [] if row.held else holders[row.lane],
        )
        for row in rows
    ]


def _count(rows: QuerySet[Slot]) -> Coalesce:
    """Count rows, as a part of another query."""
    return Coalesce(Subquery(rows.values("lane").annotate(there_are=Count("pk")).values("there_are")), 0)


@overload
def _locked_lane(tenant_id: UUID, name: str) -> QuerySet[Slot]: ...


@overload
def _locked_lane(tenant_id: UUID, name: str, *, wait: bool) -> QuerySet[Slot] | None: ...


def _locked_lane(tenant_id: UUID, name: str, *, wait: bool = True) -> QuerySet[Slot] | None:
    """The rows of a key, which nobody else changes until this transaction ends (SQLite: they take turns anyway).

    ``None`` if another transaction has it and shall not be waited for.
    """
    lane = f"slots {tenant_id} {name}"
    if wait:
        locks.lock(lane)
    elif not locks.try_lock(lane):
        return None
    return Slot.objects.for_tenant(tenant_id).filter(lane=name)


def _enter(ticket: Ticket, lane: QuerySet[Slot]) -> Verdict:
    if not _has_room(lane, ticket):
        # Those that wait are buried when their turn comes, but nobody makes room for one that is dead.
        _free_dead(lane if ticket.on_limit == "cancel_oldest" else lane.filter(held=True))
        _promote(lane)
    if _has_room(lane, ticket):
        _add(ticket, held=True)
        return Verdict.HELD
    if ticket.on_limit == "skip":
        return Verdict.SKIPPED
    if ticket.on_limit in {"fail", "cancel_newest"}:
        return Verdict.REFUSED
    if ticket.on_limit == "cancel_oldest":
        _displace(ticket, lane)
    _add(ticket, held=False)
    return Verdict.WAITING


def _has_room(lane: QuerySet[Slot], ticket: Ticket) -> bool:
    if lane.filter(held=True).count() >= ticket.limit:
        return False
    # Where all give the same limit nobody waits; who gives a lower one may, and keeps nobody out that is more urgent.
    return not lane.filter(held=False, priority__gte=ticket.priority).exists()


def _add(ticket: Ticket, *, held: bool) -> None:
    Slot.objects.create(
        id=ticket.id,
        tenant_id=ticket.tenant_id,
        run_id=ticket.run_id,
        node_id=ticket.node_id,
        run_epoch=ticket.run_epoch,
        key=ticket.key.replace("\0", "\N{REPLACEMENT CHARACTER}"),
        lane=ticket.lane,
        limit=ticket.limit,
        priority=ticket.priority,
        held=held,
    )


def _dead() -> Q:
    """Slots whose run has ended; of nodes, too, those whose executor has lost the run."""
    lost = ~Q(run__state=RunState.RUNNING.value) | ~Q(run__epoch=F("run_epoch"))
    return Q(run__state__in=TERMINAL_RUN_STATES) | (Q(run_epoch__isnull=False) & lost)


def _free_dead(slots: QuerySet[Slot]) -> None:
    gone = list(slots.filter(_dead()).values_list("pk", flat=True))
    if gone:
        slots.filter(pk__in=gone).delete()


def _promote(lane: QuerySet[Slot]) -> None:
    """Give free slots to those that wait: the most urgent and of those the oldest first."""
    holders = lane.filter(held=True).count()
    waiting = lane.filter(held=False).order_by("-priority", "pk")
    while (head := waiting.first()) is not None and holders < head.limit:
        if waiting.filter(_dead(), pk=head.pk).exists():
            head.delete()
            continue
        head.held = True
        head.save(update_fields=["held"])
        holders += 1
        if head.run_epoch is None:
            _queue_again(head.run_id)
        else:
            notifications().notify_news(head.run_id)


def _queue_again(run_id: UUID) -> None:
    waiting = Run.objects.across_tenants().filter(pk=run_id, state=RunState.WAITING.value)
    if waiting.update(state=RunState.QUEUED.value, wake_at=None):
        notifications().notify_queued(Run.objects.across_tenants().values_list("queue", flat=True).get(pk=run_id))


def _displace(ticket: Ticket, lane: QuerySet[Slot]) -> None:
    """Make room for one more: the oldest goes, unless enough of them are going already."""
    staying = lane.filter(displaced=False).order_by("-held", "pk")
    if staying.count() < ticket.limit:
        return
    oldest = staying[0]
    oldest.displaced = True
    oldest.save(update_fields=["displaced"])
    if oldest.run_epoch is not None:
        notifications().notify_news(oldest.run_id)
        return
    runs = {run.pk: run for run in _locked_runs({oldest.run_id, ticket.run_id})}
    run = runs[oldest.run_id]
    if run.state in TERMINAL_RUN_STATES or run.cancel_requested_at is not None:
        return
    run.cancel_requested_at, run.pause_requested_at = timezone.now(), None
    if run.state == RunState.RUNNING:
        notifications().notify_news(run.pk)
    else:
        run.state = RunState.QUEUED.value
        notifications().notify_queued(run.queue)
    run.save(update_fields=["cancel_requested_at", "pause_requested_at", "state"])


def _locked_runs(run_ids: Iterable[UUID]) -> QuerySet[Run]:
    """Rows locked in the order that writers keep, too."""
    rows = Run.objects.across_tenants().filter(pk__in=list(run_ids)).order_by("pk").select_for_update(no_key=True)
    return rows.only("pk", "state", "queue", "cancel_requested_at", "pause_requested_at")


def _park(run_id: UUID, epoch: int) -> None:
    ours = Run.objects.across_tenants().filter(pk=run_id, epoch=epoch, state=RunState.RUNNING.value)
    asked = Q(cancel_requested_at__isnull=False) | Q(pause_requested_at__isnull=False)
    asked_to_stop = When(asked, then=Value(RunState.QUEUED.value))
    down = ours.update(
        state=Case(asked_to_stop, default=Value(RunState.WAITING.value)),
        owner="",
        lease_until=None,
        wake_at=Case(When(started_at__isnull=True, then=F("queue_deadline"))),
    )
    if not down:
        raise FencedError(str(run_id))
