"""The next slots of a schedule, with notes on clock changes and on the rules that apply to each."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from django.utils import timezone

from pyflow.triggers.schedule_config import TOGETHER, CatchUp, Overlap, ScheduleConfig
from pyflow.triggers.timetable import GRACE, Timetable, jitter_of
from triggers.errors import ScheduleInvalidError
from triggers.models.schedules import Schedule


@dataclass(frozen=True, slots=True)
class Note:
    """A remark: a stable ``code``, and what it means in words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class PreviewedSlot:
    """A slot to come: the moment, the local time, and when it fires, its jitter included."""

    scheduled_for: datetime
    local: datetime
    fires_at: datetime
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Preview:
    """The next slots of a schedule, which fire if it is not paused by then, and notes on all of them."""

    slots: list[PreviewedSlot]
    notes: list[Note]


def preview(schedule: Schedule, count: int, now: datetime | None = None) -> Preview:
    """Return the next ``count`` slots. Raises ``ScheduleInvalidError``."""
    now = now or timezone.now()
    try:
        config, timetable = schedule.read_config(), schedule.timetable()
    except ValueError:
        raise ScheduleInvalidError(f"Its config cannot be used: {schedule.problem}") from None
    begin = now if schedule.next_at is None else schedule.next_at - timedelta(microseconds=1)
    zone, before, slots = ZoneInfo(config.timezone), begin.astimezone(ZoneInfo(config.timezone)).utcoffset(), []
    for slot in islice(timetable.slots_after(begin), count):
        local = slot.astimezone(zone)
        notes = list(_clock_notes(timetable, slot, local))
        if local.utcoffset() != before:
            change = f"The clock in {config.timezone} has changed since the slot before: it is {_offset(local)} now."
            notes.append(Note("offset_changed", change))
        before = local.utcoffset()
        slots.append(PreviewedSlot(slot, local, slot + jitter_of(schedule.pk, slot, config.jitter), notes))
    return Preview(slots, _rules(schedule, config))


def _clock_notes(timetable: Timetable, slot: datetime, local: datetime) -> list[Note]:
    change = None if timetable.cron is None else timetable.cron.moved_by(slot)
    if change == "gap":
        message = f"Its local time does not exist on this day: it fires at the first instant after, {local:%H:%M}."
        return [Note("dst_gap", message)]
    if change == "overlap":
        which = "second" if local.fold else "first"
        return [Note("dst_overlap", f"The local time {local:%H:%M} comes twice on this day: this is the {which} one.")]
    return []


def _offset(local: datetime) -> str:
    return f"UTC{local:%z}"


_OVERLAPS = {
    Overlap.SKIP: "A slot starts no run while the run of an earlier one is active.",
    Overlap.BUFFER_ONE: "One slot waits while the run of an earlier one is active; further ones start no run.",
    Overlap.BUFFER_ALL: "Slots wait in order while the run of an earlier one is active.",
    Overlap.CANCEL_OTHER: "A slot cancels the active run of an earlier one, and starts once that has ended.",
    Overlap.TERMINATE_OTHER: "A slot terminates the active run of an earlier one, and starts at once.",
    Overlap.ALLOW_ALL: "Every slot starts its run, whatever else is active.",
}


def _rules(schedule: Schedule, config: ScheduleConfig) -> list[Note]:
    seconds = int(GRACE.total_seconds())
    late = f"A slot that cannot fire within {seconds} s because no scheduler works"
    if (together := TOGETHER.get(config.overlap)) is not None:
        late += f", or before {'the next one is' if together == 1 else f'the next {together} are'} due,"
    caught_up = {
        CatchUp.NONE: f"{late} is missed.",
        CatchUp.LAST: f"{late} is missed, except the most recent one of the last {config.catch_up_window:g} s.",
        CatchUp.ALL: f"{late} fires afterwards: the most recent {config.max_catch_up} of the last "
        f"{config.catch_up_window:g} s.",
    }
    notes = [Note(f"overlap_{config.overlap}", _OVERLAPS[config.overlap])]
    notes.append(Note(f"catch_up_{config.catch_up}", caught_up[config.catch_up]))
    if schedule.paused_at is not None:
        notes.append(Note("paused", "It is paused: slots that pass meanwhile start no run and are not caught up."))
    if not schedule.declared:
        notes.append(Note("inactive", "The published version does not declare it, or its workflow is archived."))
    return notes
