"""The config of a ``schedule`` trigger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice, pairwise
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from pyflow.core.duration import Duration
from pyflow.core.moments import Moment
from pyflow.documents.described import DescribedModel
from pyflow.triggers.cron import cron_in, find_zone
from pyflow.triggers.timetable import CatchUpRule, Timetable

#: Seconds. The scheduler looks several times a second: more often would promise what it does not keep.
MIN_INTERVAL = 1.0
DAY = 86_400.0
#: Slots between which the shortest gap is looked for.
_COMPARED = 100
#: What templates of the input see as ``trigger``.
FACTS = frozenset({"id", "type", "schedule_id", "scheduled_for", "fired_at", "cause"})


class Overlap(StrEnum):
    """Rules for a slot while a run that the schedule started earlier is still active."""

    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    BUFFER_ALL = "buffer_all"
    CANCEL_OTHER = "cancel_other"
    TERMINATE_OTHER = "terminate_other"
    ALLOW_ALL = "allow_all"


#: Under a rule, so many slots that are due at the same moment start runs, or wait to; without a number, all.
TOGETHER = {Overlap.SKIP: 1, Overlap.BUFFER_ONE: 2, Overlap.CANCEL_OTHER: 1, Overlap.TERMINATE_OTHER: 1}


class CatchUp(StrEnum):
    """Rules for the slots that passed while no scheduler worked."""

    NONE = "none"
    LAST = "last"
    ALL = "all"


def _check_cron(expression: str) -> str:
    cron_in(expression, "UTC")
    return expression


def _check_zone(name: str) -> str:
    find_zone(name)
    return name


def _check_interval(seconds: float) -> float:
    if seconds < MIN_INTERVAL:
        raise ValueError("an interval is at least 1 second")
    return seconds


Interval = Annotated[Duration, AfterValidator(_check_interval)]


class ScheduleConfig(DescribedModel):
    """Slots of a schedule, the rules for slots that overlap or were missed, and the input of its runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: Annotated[str, AfterValidator(_check_cron)] | None = None
    """Five fields, or a nickname such as ``@daily``, in ``timezone``."""
    interval: Interval | None = None
    """Time between two slots: real time, whatever the clocks do."""
    interval_seconds: Interval | None = None
    """The interval in seconds (version 1)."""
    at: Moment | None = None
    """The only slot."""
    timezone: Annotated[str, AfterValidator(_check_zone)] = "UTC"
    """IANA name of the zone of ``cron``."""
    start: Moment | None = None
    """No slot is before it; the first one of an interval is at it."""
    end: Moment | None = None
    """No slot is at or after it."""
    jitter: Annotated[Duration, Field(le=DAY)] = 0.0
    """Each slot fires late by a part of this that is always the same for the slot."""
    overlap: Overlap = Overlap.SKIP
    """Rule for a slot while an earlier run of the schedule is active."""
    catch_up: CatchUp = CatchUp.NONE
    """Which missed slots are fired late."""
    catch_up_window: Annotated[Duration, Field(gt=0)] = DAY
    """Slots that are older than this are not caught up."""
    max_catch_up: Annotated[int, Field(ge=1, le=1000)] = 100
    """With ``catch_up: all``, at most so many slots are caught up at a time: the most recent ones."""
    pause_after_failures: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Pauses the schedule after so many failures in a row: of its runs, or of starting them."""
    input: dict[str, Any] = Field(default_factory=dict)
    """Templates of the input of its runs, which see ``trigger``."""

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        kinds = [name for name in ("cron", "interval", "interval_seconds", "at") if getattr(self, name) is not None]
        if len(kinds) != 1:
            given = f"it has {' and '.join(f'`{name}`' for name in kinds)}" if kinds else "it has none of them"
            raise ValueError(f"a schedule has one of `cron`, `interval` and `at`; {given}")
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError("`end` must be after `start`")
        return self

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> ScheduleConfig:
        """Read a config without its unknown keys, which a file of version 1 may have. Raises ``ValueError``."""
        return cls.model_validate({key: config[key] for key in cls.model_fields.keys() & config.keys()})

    def timetable(self, anchor: datetime) -> Timetable:
        """Return the slots; those of an interval without ``start`` are counted from ``anchor``, which is none."""
        seconds = self.interval or self.interval_seconds
        return Timetable(
            cron=None if self.cron is None else cron_in(self.cron, self.timezone),
            interval=None if seconds is None else timedelta(seconds=seconds),
            at=self.at,
            anchor=(anchor if self.start is None else self.start).astimezone(UTC),
            first=1 if self.start is None else 0,
            start=self.start,
            end=self.end,
        )

    def catch_up_rule(self) -> CatchUpRule:
        """Return the rule for slots that are looked at late."""
        most = {CatchUp.NONE: 0, CatchUp.LAST: 1, CatchUp.ALL: self.max_catch_up}[self.catch_up]
        window, instead = timedelta(seconds=self.catch_up_window), self.catch_up is CatchUp.LAST
        return CatchUpRule(most, window, instead=instead, together=TOGETHER.get(self.overlap))

    def shortest_gap(self) -> float | None:
        """Return the seconds between the two slots that are closest, of the next hundred; ``None`` if there is one."""
        now = datetime.now(UTC)
        gaps = [later - earlier for earlier, later in pairwise(islice(self.timetable(now).slots_after(now), _COMPARED))]
        return min(gaps).total_seconds() if gaps else None

    @property
    def has_zone(self) -> bool:
        """Return whether its slots follow the rules of a time zone, which can change."""
        return self.cron is not None and self.timezone != "UTC"

    def same_slots(self, other: ScheduleConfig) -> bool:
        """Return whether both have the same slots."""
        return self._slots() == other._slots()

    def _slots(self) -> tuple[Any, ...]:
        interval = self.interval or self.interval_seconds
        return self.cron, self.timezone if self.cron else "", interval, self.at, self.start, self.end
