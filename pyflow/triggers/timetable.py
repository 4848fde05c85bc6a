"""Slots of a schedule, their jitter, and the plan for slots that are due: fired, caught up, or missed."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain

from pyflow.triggers.cron import Cron, CronError

_TICK = timedelta(microseconds=1)
#: A slot that is due for no longer than this is on time.
GRACE = timedelta(seconds=60)
#: So many slots are looked at by one plan; the next one goes on where it ended.
MOST_SLOTS = 100_000


@dataclass(frozen=True, slots=True)
class Timetable:
    """The slots of one of ``cron``, ``interval`` and ``at``, all in UTC.

    Those of an interval are the ``first``, second… multiple after ``anchor``; with ``first`` of ``None`` also all
    before.
    """

    cron: Cron | None
    interval: timedelta | None
    at: datetime | None
    anchor: datetime
    first: int | None = 1
    start: datetime | None = None
    end: datetime | None = None

    def slots_from(self, moment: datetime) -> Iterator[datetime]:
        """Yield the slots at and after ``moment``, strictly increasing."""
        return self.slots_after(moment - _TICK)

    def slots_after(self, moment: datetime) -> Iterator[datetime]:
        """Yield the slots after ``moment``, strictly increasing."""
        if self.start is not None:
            moment = max(moment, self.start - _TICK)
        for slot in self._all_after(moment):
            if self.end is not None and slot >= self.end:
                return
            yield slot

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first slot after ``moment``; ``None`` if there is none."""
        return next(self.slots_after(moment), None)

    def _all_after(self, moment: datetime) -> Iterator[datetime]:
        if self.at is not None:
            if self.at > moment:
                yield self.at
        elif self.interval is not None:
            number = (moment - self.anchor) // self.interval + 1
            number = number if self.first is None else max(self.first, number)
            try:
                while True:
                    yield self.anchor + number * self.interval
                    number += 1
            except OverflowError:  # the calendar ends with the year 9999
                return
        elif self.cron is not None:
            try:
                yield from self.cron.slots_after(moment)
            except CronError:  # there is no further slot: 41 years without one, or the end of the calendar
                return


def jitter_of(schedule: object, slot: datetime, seconds: float) -> timedelta:
    """Return how late a slot fires: from 0 to ``seconds``, the same whenever and wherever it is asked for."""
    if not seconds:
        return timedelta()
    digest = hashlib.sha256(f"{schedule} {slot.isoformat()}".encode()).digest()
    return timedelta(seconds=seconds * int.from_bytes(digest[:6]) / 2**48)


@dataclass(slots=True)
class Missed:
    """A range of slots that are not fired because they are too late."""

    first: datetime | None = None
    last: datetime | None = None
    count: int = 0

    def add(self, slot: datetime) -> None:
        """Add the slot that follows the range."""
        self.first, self.last, self.count = self.first or slot, slot, self.count + 1


@dataclass(slots=True)
class DuePlan:
    """The decision about the slots that are due: ``late`` and then ``on_time`` ones are fired.

    ``next`` is the slot to look at afterwards; ``None`` after the last one of the timetable.
    """

    missed: Missed = field(default_factory=Missed)
    late: list[datetime] = field(default_factory=list)
    on_time: list[datetime] = field(default_factory=list)
    next: datetime | None = None


@dataclass(frozen=True, slots=True)
class CatchUpRule:
    """The number of late slots that are fired; those that are older than ``window`` never are.

    ``instead``: they are fired only if no slot is on time, which takes their place otherwise. ``together``: of slots
    that are on time so many fire together, the most recent ones; those before them are late, for no scheduler looked
    before the next one was due.
    """

    most: int
    window: timedelta
    instead: bool = False
    together: int | None = None


def plan_due(
    timetable: Timetable, first: datetime, now: datetime, rule: CatchUpRule, *, schedule: object, jitter: float
) -> DuePlan:
    """Decide about the slots from ``first`` on that are due at ``now``. Of late ones, the most recent are caught up."""
    plan, late, seen = DuePlan(), deque[datetime](), 0

    def add_late(slot: datetime) -> None:
        late.append(slot)
        if len(late) > rule.most or now - slot > rule.window:
            plan.missed.add(late.popleft())

    for slot in chain((first,), timetable.slots_after(first)):
        due = slot + jitter_of(schedule, slot, jitter)
        if due > now or seen >= MOST_SLOTS:
            plan.next = slot
            break
        seen += 1
        if now - due <= GRACE:
            plan.on_time.append(slot)
        else:
            add_late(slot)
    if seen >= MOST_SLOTS and late:
        # Later slots may be more recent ones to catch up: these are decided about with them.
        plan.next, plan.on_time = late[0], []
        return plan
    if rule.together is not None:
        for slot in plan.on_time[: -rule.together]:
            add_late(slot)
        plan.on_time = plan.on_time[-rule.together :]
    if plan.on_time and rule.instead:
        for slot in late:
            plan.missed.add(slot)
        late.clear()
    plan.late = list(late)
    return plan
