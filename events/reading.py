"""Reads the log of a tenant by cursor: complete, in order, whoever writes meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, QuerySet

from events.cursor import Cursor
from events.errors import EventsRemovedError
from runs.models import EventRecord, Run
from runs.storage import log


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events are wanted: those that meet all that is given.

    ``types``: exact, or ``run.*`` for all that begin so. ``workflows``: by name. ``labels``: of the run that an event
    is about, ``{name: value}``. ``since`` is inclusive, ``until`` exclusive.
    """

    types: tuple[str, ...] = ()
    workflows: tuple[str, ...] = ()
    run_id: UUID | None = None
    labels: tuple[tuple[str, str], ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def select(self, rows: QuerySet[EventRecord]) -> QuerySet[EventRecord]:
        """Return those of the rows that are wanted."""
        if self.types:
            rows = rows.filter(self._of_types())
        if self.workflows:
            # Outside of runs the name is in the event; a run's workflow keeps its name.
            rows = rows.filter(Q(run__workflow__name__in=self.workflows) | Q(workflow_name__in=self.workflows))
        if self.run_id is not None:
            rows = rows.filter(run=self.run_id)
        if self.labels:
            runs = Run.objects.across_tenants()
            for name, value in self.labels:
                runs = runs.labelled(name, value)
            rows = rows.filter(run__in=runs.values("pk"))
        if self.since is not None:
            rows = rows.filter(at__gte=self.since)
        if self.until is not None:
            rows = rows.filter(at__lt=self.until)
        return rows

    def _of_types(self) -> Q:
        wanted = Q()
        for name in self.types:
            wanted |= Q(type__startswith=name.removesuffix("*")) if name.endswith(".*") else Q(type=name)
        return wanted


#: Events that a read with a filter looks at. Without a limit, one that few events meet costs as much as the whole log,
#: for every page again.
SCANNED = 2_000
#: All events.
EVERYTHING = EventFilter()


@dataclass(frozen=True, slots=True)
class LogPage:
    """Events in order, the cursor to go on from, and whether there were more at once."""

    events: list[EventRecord]
    next: Cursor
    has_more: bool = False


def read(
    tenant_id: UUID,
    *,
    after: Cursor | None = None,
    wanted: EventFilter = EVERYTHING,
    limit: int = 200,
    across_gaps: bool = False,
) -> LogPage:
    """Read up to ``limit`` events of a tenant's log after a cursor; ``None``: from the oldest that is kept.

    What is not committed yet, or could still be overtaken by what is not, comes in a later page: the cursor never
    passes it. With a filter, a read looks at ``SCANNED`` events at most: its page may be short, or empty, and have more
    behind it. Raises ``EventsRemovedError`` if events after the cursor were removed, unless what is left of them is
    asked for ``across_gaps``.
    """
    horizon = log.horizon()
    rows = EventRecord.objects.for_tenant(tenant_id).filter(position__lt=horizon).order_by("position", "seq", "id")
    if after is not None:
        rows = rows.filter(after.beyond())
    stop = None if wanted == EVERYTHING else _place_of(rows, SCANNED)
    chosen = wanted.select(rows if stop is None else rows.filter(stop.up_to()))
    chosen = chosen.select_related("run__workflow", "run__version").only(*_FIELDS)
    found = list(chosen[: limit + 1])
    # Asked after the events: some may have been removed just before they were read.
    removed = 0 if across_gaps else log.removed_to(tenant_id)
    if after is not None and removed and after < Cursor.end_of(removed):
        raise EventsRemovedError(Cursor.end_of(removed).encode(tenant_id))
    if len(found) > limit:
        return LogPage(found[:limit], Cursor.of(found[limit - 1]), has_more=True)
    if stop is not None:
        return LogPage(found, stop, has_more=True)
    end = Cursor.end_of(horizon - 1)
    return LogPage(found, end if after is None else max(after, end))


def _place_of(rows: QuerySet[EventRecord], number: int) -> Cursor | None:
    """Return the cursor of the event of this number, from 1 on, in ordered rows; ``None`` if there are fewer."""
    places = rows.values_list("position", "seq", "id")[number - 1 : number]
    return next((Cursor(*place) for place in places), None)


def end_of_log() -> Cursor:
    """Return the cursor of a reader who wants only what comes from now on."""
    return Cursor.end_of(log.horizon() - 1)


_FIELDS = (
    *("id", "tenant_id", "run_id", "seq", "type", "node_id", "at", "data", "position", "workflow_name", "origin"),
    *("version_number", "run__workflow__name", "run__version__number", "run__labels"),
)
