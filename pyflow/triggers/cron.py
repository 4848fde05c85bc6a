"""Cron arithmetic: five fields in an IANA time zone, right across clock changes.

A job at a fixed time runs once a local day: in a gap at the first instant after it, in an overlap at the first of the
two. A job whose minute or hour is ``*`` or ``*/n`` follows real time. Day of month and day of week are joined by *or*
when both are restricted, as cron does. ``@hourly @daily @midnight @weekly @monthly @yearly @annually`` are known; the
extensions ``L``, ``W`` and ``#`` of other tools are not.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import ClassVar, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from pyflow.core.errors import PyFlowError
from pyflow.core.zones import zone_of

NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MAX_LENGTH = 200
#: 29 February that is also a given weekday comes back after 28 years, or 40 across a century without a leap day.
HORIZON = timedelta(days=41 * 366)
#: No slot is looked for before it: earlier moments leave no room for a day and an offset.
_BEGIN = datetime(1, 1, 3, tzinfo=UTC)

_FIELD = re.compile(r"[0-9A-Za-z*/,-]+", re.ASCII)
_STEP = re.compile(r"/([0-9]+)", re.ASCII)
#: How many values each field has: what a step may be at most. ``*/90`` minutes would be every hour.
_SIZES = (60, 24, 31, 12, 7)
_EXTENSIONS = re.compile(r"#|(?:^|,)[0-9]*L|W", re.ASCII)


class CronError(PyFlowError, ValueError):
    """The text is not a cron expression that can ever fire, or the zone is not one."""

    code: ClassVar[str] = "cron_invalid"
    permanent: ClassVar[bool] = True


class Cron:
    """A cron expression in a zone. Raises ``CronError`` when it could never fire."""

    __slots__ = ("expression", "fields", "zone")

    def __init__(self, expression: str, zone: str = "UTC") -> None:
        self.expression = expression
        self.fields = _fields(expression)
        self.zone = find_zone(zone)
        self.next_after(datetime.now(UTC))

    def next_after(self, moment: datetime) -> datetime:
        """The first slot after ``moment`` (which has a zone), in UTC."""
        return next(self.slots_after(moment))

    def slots_after(self, moment: datetime) -> Iterator[datetime]:
        """All slots after ``moment`` (which has a zone), in UTC, strictly increasing, without end.

        Raises ``CronError`` when a next one is not found within 41 years.
        """
        if moment.tzinfo is None:
            raise ValueError("a moment without a zone")
        moment = moment.astimezone(UTC)
        last = moment
        with contextlib.suppress(OverflowError):  # the calendar ends with the year 9999
            for slot in CronSim(self.fields, self._begin(moment)):
                slot = slot.astimezone(UTC)
                if slot - last > HORIZON:
                    break
                if slot > last:
                    last = slot
                    yield slot
        raise CronError(f"{self.expression!r} never fires")

    def moved_by(self, slot: datetime) -> Literal["gap", "overlap"] | None:
        """Return the clock change that decides at which instant this slot is.

        ``gap``: the local time of the expression does not exist on that day. ``overlap``: it exists twice.
        """
        local = slot.astimezone(self.zone)
        times = CronSim(self.fields, datetime(2000, 1, 1, tzinfo=UTC))
        if local.minute not in times.minutes or local.hour not in times.hours:
            return "gap"
        return "overlap" if local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset() else None

    def _begin(self, moment: datetime) -> datetime:
        """Return the local time to begin at: a day early if the clock changed since, to see both sides of the change.

        cronsim answers for whole local days, and a day of slots every minute takes 20 ms.
        """
        day_before = (max(moment, _BEGIN) - timedelta(days=1)).astimezone(self.zone)
        local = day_before if moment < _BEGIN else moment.astimezone(self.zone)
        return local if local.utcoffset() == day_before.utcoffset() else day_before


@lru_cache(maxsize=4096)
def cron_in(expression: str, zone: str) -> Cron:
    """Return a cron expression in a zone, made once per process. Raises ``CronError``."""
    return Cron(expression, zone)


def find_zone(name: object) -> ZoneInfo:
    """A time zone by its IANA name (``Europe/Berlin``, ``UTC``). POSIX rules, offsets and empty text are refused."""
    try:
        return zone_of(name)
    except ValueError as error:
        raise CronError(str(error)) from None


def _fields(expression: object) -> str:
    if not isinstance(expression, str) or len(expression) > MAX_LENGTH:
        raise CronError("a cron expression is text of at most 200 characters")
    text = expression.strip(" ")
    if text.startswith("@"):
        try:
            return NICKNAMES[text.lower()]
        except KeyError:
            raise CronError(f"unknown nickname {text!r}; known are {', '.join(NICKNAMES)}") from None
    fields = [field for field in text.split(" ") if field]
    if len(fields) != 5:
        raise CronError(f"a cron expression has 5 parts (minute hour day month weekday), not {len(fields)}: {text!r}")
    for field, size in zip(fields, _SIZES, strict=True):
        if not _FIELD.fullmatch(field):
            raise CronError(f"not a cron field: {field!r}")
        if any(int(step) > size for step in _STEP.findall(field)):
            raise CronError(f"a step of more than the {size} values that there are: {field!r}")
    if any(_EXTENSIONS.search(field.upper()) for field in (fields[2], fields[4].upper().replace("WED", "3"))):
        raise CronError(f"L, W and # are not supported: {text!r}")
    try:
        CronSim(" ".join(fields), datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise CronError(f"{error}: {text!r}") from None
    return " ".join(fields)
