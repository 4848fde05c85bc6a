"""Fires slots: decides by the schedule's rules whether a slot starts a run now, later or never, and records it.

The slots of many schedules are decided about together: what all decisions need is read at once, and all runs are
started at once. Only a schedule whose runs take turns waits for the outcome of one slot before it decides about the
next one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db.models import Count, QuerySet

from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from pyflow.triggers.schedule_config import Overlap, ScheduleConfig
from runs.errors import RunFinishedError, RunNotFoundError
from runs.services.cancel import cancel_run
from runs.services.locks import lock_families
from runs.services.terminate import terminate_run
from tenants.access import Actor
from triggers.models.schedules import FireCause, FireState, Schedule, ScheduleFire
from triggers.services.schedules.starting import acting, start_fires

LIVE_RUN_STATES = [state.value for state in RunState if state not in TERMINAL_RUN_STATES]
#: Rules under which a slot stops the run of an earlier one.
_STOPPING = frozenset({Overlap.CANCEL_OTHER, Overlap.TERMINATE_OTHER})
#: Rules under which no slot starts before those that wait.
_IN_TURN = frozenset({Overlap.BUFFER_ONE, Overlap.BUFFER_ALL, Overlap.CANCEL_OTHER})
#: So many slots of a schedule wait at most; further ones are skipped.
MOST_BUFFERED = 1_000


@dataclass(slots=True)
class Slots:
    """Slots of a schedule that the transaction has locked, in their order, each with why it is looked at."""

    schedule: Schedule
    slots: Sequence[tuple[datetime, FireCause]]


def fire_slot(
    schedule: Schedule, slot: datetime, *, now: datetime, cause: FireCause, by: Actor | None = None
) -> ScheduleFire:
    """Fire one slot, as ``fire_slots`` does."""
    [fire] = fire_slots(schedule.tenant_id, [Slots(schedule, [(slot, cause)])], now=now, by=by)
    return fire


def fire_slots(tenant_id: UUID, due: Sequence[Slots], *, now: datetime, by: Actor | None = None) -> list[ScheduleFire]:
    """Record slots of a tenant's schedules, which the caller saves, and start their runs unless the rules forbid it.

    A slot that has a row already is that row: it fires once. A start that is refused is noted in the row or, where
    somebody (``by``) waits for the answer, raised.
    """
    standings = _standings(tenant_id, due, now)
    # Before anything is started: runs are locked before counters.
    stoppable = [run_id for each in standings if each.config.overlap in _STOPPING for run_id in each.active]
    if stoppable:
        lock_families(tenant_id, stoppable)
    while starts := [start for each in standings for start in each.decide()]:
        start_fires(tenant_id, [(each.schedule, fire) for each, fire in starts], now=now, by=by)
        for each, fire in starts:
            each.go_on(fire)
    ScheduleFire.objects.bulk_create(fire for each in standings for fire in each.fresh)
    return [fire for each in standings for fire in each.fires]


@dataclass(slots=True)
class _Standing:
    """A schedule between two slots: those to decide about, and the runs and slots that bear on the decision.

    ``fires`` are the rows of all its slots, and of those ``fresh`` are new.
    """

    schedule: Schedule
    config: ScheduleConfig
    fires: list[ScheduleFire]
    undecided: deque[ScheduleFire]
    active: list[UUID]
    buffered: int
    fresh: list[ScheduleFire] = field(default_factory=list)

    def decide(self) -> list[tuple[_Standing, ScheduleFire]]:
        """Decide about slots up to one that starts a run on which the next decision depends; the slots to start."""
        starts: list[tuple[_Standing, ScheduleFire]] = []
        while self.undecided:
            fire = self.undecided.popleft()
            self.fresh.append(fire)
            if self.active or (self.buffered and self.config.overlap in _IN_TURN):
                self._overlap(fire)
            if fire.state:
                continue
            starts.append((self, fire))
            if self.config.overlap is not Overlap.ALLOW_ALL:
                break
        return starts

    def go_on(self, fire: ScheduleFire) -> None:
        """Take note of the outcome of a start."""
        if self.config.overlap is Overlap.ALLOW_ALL:
            return
        if self.active:  # that which takes their place has started
            self._stop(terminate_run)
        self.active = [fire.run_id] if fire.run_id else []

    def _overlap(self, fire: ScheduleFire) -> None:
        """Decide about a slot while an earlier one is active, or waits; without a state, it is to start."""
        overlap = self.config.overlap
        if overlap is Overlap.SKIP:
            fire.has_no_run(FireState.SKIPPED, "overlap", "The run of an earlier slot was still active.")
        elif overlap in (Overlap.BUFFER_ONE, Overlap.BUFFER_ALL):
            most = 1 if overlap is Overlap.BUFFER_ONE else MOST_BUFFERED
            if self.buffered >= most:
                message = f"The run of an earlier slot was still active, and the buffer was full ({most})."
                fire.has_no_run(FireState.SKIPPED, "buffer_full", message)
            else:
                fire.state = FireState.BUFFERED
                self.buffered += 1
        else:
            self._replace_buffered()
            if overlap is Overlap.CANCEL_OTHER:
                fire.state = FireState.BUFFERED  # it starts once what is cancelled has ended
                self.buffered += 1
                self._stop(cancel_run)

    def _replace_buffered(self) -> None:
        message = "A later slot took its place before it could start."
        waiting = fires_of(self.schedule).filter(state=FireState.BUFFERED).exclude(cause=FireCause.BACKFILL)
        waiting.update(state=FireState.SKIPPED, reason="superseded", message=message)
        for fire in self.fresh:
            if fire.state == FireState.BUFFERED:
                fire.has_no_run(FireState.SKIPPED, "superseded", message)

    def _stop(self, stop: Callable[..., object]) -> None:
        for run_id in self.active:
            with suppress(RunFinishedError, RunNotFoundError):
                stop(by=acting(self.schedule), run_id=run_id)


def _standings(tenant_id: UUID, due: Sequence[Slots], now: datetime) -> list[_Standing]:
    """Read all that the decisions need: rows that slots have already, active runs, and slots that wait."""
    configs = {each.schedule.pk: each.schedule.read_config() for each in due}
    exclusive = [pk for pk, config in configs.items() if config.overlap is not Overlap.ALLOW_ALL]
    in_turn = [pk for pk, config in configs.items() if config.overlap in _IN_TURN]
    rows = ScheduleFire.objects.for_tenant(tenant_id).order_by()
    moments = {slot for each in due for slot, _ in each.slots}
    known = {
        (row.schedule_id, row.scheduled_for): row
        for row in rows.filter(schedule__in=configs, scheduled_for__in=moments)
    }
    active: dict[UUID, list[UUID]] = {}
    if exclusive:  # asked of the runs themselves, whatever was noted of them
        open_rows = rows.filter(schedule__in=exclusive, state=FireState.STARTED, run__state__in=LIVE_RUN_STATES)
        for pk, run_id in open_rows.values_list("schedule", "run"):
            active.setdefault(pk, []).append(run_id)
    buffered: dict[UUID, int] = {}
    if in_turn:
        waiting = rows.filter(schedule__in=in_turn, state=FireState.BUFFERED)
        buffered = dict(waiting.values_list("schedule").annotate(Count("pk")))
    standings = []
    for each in due:
        schedule = each.schedule
        fires = [known.get((schedule.pk, slot)) or _row(schedule, slot, cause, now) for slot, cause in each.slots]
        undecided = deque(fire for fire in fires if not fire.state)
        pk = schedule.pk
        standings.append(_Standing(schedule, configs[pk], fires, undecided, active.get(pk, []), buffered.get(pk, 0)))
    return standings


def _row(schedule: Schedule, slot: datetime, cause: FireCause, now: datetime) -> ScheduleFire:
    return ScheduleFire(tenant_id=schedule.tenant_id, schedule=schedule, scheduled_for=slot, cause=cause, fired_at=now)


def fires_of(schedule: Schedule) -> QuerySet[ScheduleFire]:
    """Return the rows of a schedule's slots."""
    rows: QuerySet[ScheduleFire] = ScheduleFire.objects.for_tenant(schedule.tenant_id).filter(schedule=schedule)
    return rows
