"""Verbs of people and programs on a schedule: pause, resume, fire now, backfill."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice, takewhile
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from tenants import audit
from tenants.access import Actor
from triggers.errors import BackfillError, ScheduleInactiveError, ScheduleInvalidError
from triggers.models.schedules import FireCause, FireState, PauseReason, Schedule, ScheduleFire
from triggers.services.schedules.fires import fire_slot, fires_of
from triggers.services.schedules.rows import invalidate, lock_schedule, unpause, wait_from
from triggers.services.schedules.starting import record_pause

#: Slots of one backfill.
MOST_SLOTS = 1_000
#: Asked with the locked row: raises if the caller means another state of it.
Precondition = Callable[[Schedule], None]


def any_state(_: Schedule) -> None:
    """The precondition of those who have none."""


def pause_schedule(*, by: Actor, schedule_id: UUID, paused: bool, precondition: Precondition = any_state) -> Schedule:
    """Pause a schedule, or let it go on with the first slot from now on. Doing it twice is doing it once.

    Slots that pass meanwhile are not caught up. Raises ``ScheduleNotFoundError``, what the precondition raises, and
    ``ScheduleInvalidError`` for one whose config cannot be used.
    """
    with transaction.atomic():
        schedule = lock_schedule(tenant_id=by.tenant_id, schedule_id=schedule_id)
        precondition(schedule)
        if (schedule.paused_at is not None) == paused:
            return schedule
        now = timezone.now()
        if paused:
            schedule.paused_at, schedule.pause_reason = now, PauseReason.REQUESTED
        else:
            unpause(schedule)
        wait_from(schedule, now)
        if not paused and schedule.paused_at is not None:
            raise ScheduleInvalidError(f"Its config cannot be used: {schedule.problem}")
        schedule.touch()
        schedule.save()
        record_pause(by, schedule, now)
    return schedule


def fire_now(*, by: Actor, schedule_id: UUID) -> ScheduleFire:
    """Fire a schedule once more, now, by its own rules about overlap; it may be paused.

    Raises ``ScheduleNotFoundError``, ``ScheduleInactiveError``, ``ScheduleInvalidError``, and what a start is refused
    for: then nothing is recorded.
    """
    with transaction.atomic():
        schedule = _usable(by, schedule_id)
        now = timezone.now()
        fire = fire_slot(schedule, now, now=now, cause=FireCause.MANUAL, by=by)
        audit.record(
            by=by,
            action="schedule.fired",
            target=f"schedule:{schedule.pk}",
            after={"trigger": schedule.trigger_id, "state": str(fire.state), "run": fire.run_id and str(fire.run_id)},
        )
    return fire


@dataclass(frozen=True, slots=True)
class BackfilledSlot:
    """A slot in the range of a backfill: whether it will start a run, and otherwise the state of its row."""

    scheduled_for: datetime
    starts: bool
    state: str = ""


def backfill(*, by: Actor, schedule_id: UUID, begin: datetime, end: datetime, dry_run: bool) -> list[BackfilledSlot]:
    """Start the runs of all slots from ``begin`` to before ``end`` that have started none.

    They are started by the scheduler, the earliest first: one after the other, or all at once with ``allow_all``. A
    dry run only answers what would be. Raises ``BackfillError``, or as ``fire_now`` does.
    """
    now = timezone.now()
    if not begin < end <= now:
        raise BackfillError("`from` must be before `to`, and `to` not in the future: later slots fire by themselves.")
    with transaction.atomic():
        schedule = _usable(by, schedule_id)
        slots = _slots(schedule, begin, end)
        rows = list(fires_of(schedule).filter(_touching(begin, end)))
        found = [_look(slot, rows) for slot in slots]
        if dry_run:
            return found
        wanted = [slot.scheduled_for for slot in found if slot.starts]
        _replace(schedule, set(wanted), rows)
        ScheduleFire.objects.bulk_create(
            ScheduleFire(
                tenant_id=schedule.tenant_id,
                schedule=schedule,
                scheduled_for=slot,
                cause=FireCause.BACKFILL,
                state=FireState.BUFFERED,
                fired_at=now,
            )
            for slot in wanted
        )
        after = {"from": begin.isoformat(), "to": end.isoformat(), "slots": len(wanted)}
        audit.record(by=by, action="schedule.backfilled", target=f"schedule:{schedule.pk}", after=after)
    return found


def _slots(schedule: Schedule, begin: datetime, end: datetime) -> list[datetime]:
    """The slots of the timetable as it is now, also those from before there was the schedule."""
    timetable = schedule.timetable()
    if timetable.start is None:
        timetable = replace(timetable, first=None)
    slots = list(islice(takewhile(lambda slot: slot < end, timetable.slots_from(begin)), MOST_SLOTS + 1))
    if len(slots) > MOST_SLOTS:
        raise BackfillError(f"The range has more than {MOST_SLOTS:,} slots. Send smaller ranges.")
    return slots


def _touching(begin: datetime, end: datetime) -> Q:
    return Q(scheduled_for__lt=end) & (Q(scheduled_for__gte=begin) | Q(until__gte=begin))


def _look(slot: datetime, rows: list[ScheduleFire]) -> BackfilledSlot:
    own = [row for row in rows if row.scheduled_for == slot]
    around = [row for row in rows if row.until is not None and row.scheduled_for <= slot <= row.until]
    state = (own or around)[0].state if own or around else ""
    return BackfilledSlot(slot, state in ("", *_WITHOUT_RUN), state)


_WITHOUT_RUN = (FireState.SKIPPED, FireState.MISSED, FireState.FAILED)


def _replace(schedule: Schedule, wanted: set[datetime], rows: list[ScheduleFire]) -> None:
    """Remove the rows that say why the slots started no run; a range of missed ones keeps those that are not wanted."""
    for row in rows:
        if row.until is None:
            if row.scheduled_for in wanted:
                row.delete()
            continue
        row.count -= sum(row.scheduled_for <= slot <= row.until for slot in wanted)
        if row.count <= 0:
            row.delete()
            continue
        if row.scheduled_for in wanted:
            following = schedule.timetable().slots_after(row.scheduled_for)
            row.scheduled_for = next(slot for slot in following if slot not in wanted)
        row.save(update_fields=["scheduled_for", "count"])


def _usable(by: Actor, schedule_id: UUID) -> Schedule:
    schedule = lock_schedule(tenant_id=by.tenant_id, schedule_id=schedule_id)
    if not schedule.declared:
        raise ScheduleInactiveError(
            f"The schedule {schedule.trigger_id!r} starts no runs: the published version does not declare it, or its "
            "workflow is archived."
        )
    try:
        schedule.read_config()
    except ValueError as error:
        invalidate(schedule, error)
        raise ScheduleInvalidError(f"Its config cannot be used: {schedule.problem}") from None
    return schedule
