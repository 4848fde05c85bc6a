"""Sources of streams: the log of a tenant, filtered, or the events of one run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from events.cursor import Cursor
from events.reading import EventFilter, read
from events.streams.rows import End, LogRow, Place, is_wanted
from pyflow.core.events import EventType
from pyflow.core.states import TERMINAL_RUN_STATES
from runs.errors import RunNotFoundError
from runs.models import EventRecord
from runs.services.find import find_run

#: Types of events after which a run's state is looked at: it has ended, unless it was retried meanwhile.
ENDINGS = frozenset({EventType.RUN_SUCCEEDED.value, EventType.RUN_FAILED.value, EventType.RUN_CANCELLED.value})


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that were read after a place, and the place to go on from. ``end``: nothing will follow them."""

    rows: list[LogRow]
    place: Place
    has_more: bool = False
    end: End | None = None


class Source(Protocol):
    """The source of the events of one stream."""

    @property
    def tenant_id(self) -> UUID:
        """The tenant of the log."""

    @property
    def run_id(self) -> UUID | None:
        """The run that it is limited to."""

    def wants(self, row: LogRow) -> bool:
        """Return whether the stream delivers a row."""

    def place_of(self, row: LogRow) -> Place:
        """Return the place after a row."""

    def id_of(self, row: LogRow) -> str:
        """Return the place after a row as clients send it to resume."""

    def may_end_after(self, row: LogRow) -> bool:
        """Return whether the stream may be complete after a row."""

    def read(self, after: Place, limit: int) -> Batch:
        """Read from the database. Raises ``EventsRemovedError``."""


@dataclass(frozen=True, slots=True)
class LogSource:
    """The log of a tenant, filtered."""

    tenant_id: UUID
    wanted: EventFilter

    @property
    def run_id(self) -> UUID | None:
        """The run of the filter."""
        return self.wanted.run_id

    def wants(self, row: LogRow) -> bool:
        """Return whether a row meets the filter."""
        return is_wanted(row, self.wanted)

    def place_of(self, row: LogRow) -> Cursor:
        """Return the cursor after a row."""
        return row.cursor

    def id_of(self, row: LogRow) -> str:
        """Return the cursor after a row as text."""
        return row.encoded_cursor()

    def may_end_after(self, row: LogRow) -> bool:  # noqa: ARG002 - as `Source`
        """Return false: a log goes on."""
        return False

    def read(self, after: Place, limit: int) -> Batch:
        """Read a page of the log."""
        assert isinstance(after, Cursor)  # noqa: S101 - as `place_of` makes them
        page = read(self.tenant_id, after=after, wanted=self.wanted, limit=limit)
        return Batch([LogRow.of(event) for event in page.events], page.next, page.has_more)


#: The end of a stream whose run is gone.
DELETED = End("run_deleted", "The run was deleted.", 404)


@dataclass(frozen=True, slots=True)
class RunSource:
    """The events of a run, until it has ended."""

    tenant_id: UUID
    run_id: UUID

    def wants(self, row: LogRow) -> bool:
        """Return whether a row is of the run."""
        return row.run_id == self.run_id

    def place_of(self, row: LogRow) -> int:
        """Return the number of the event in its run."""
        return row.seq

    def id_of(self, row: LogRow) -> str:
        """Return the number of the event in its run."""
        return str(row.seq)

    def may_end_after(self, row: LogRow) -> bool:
        """Return whether a row says that the run has ended."""
        return row.type in ENDINGS

    def read(self, after: Place, limit: int) -> Batch:
        """Read events of the run. They are complete without the log's horizon: a run has one writer at a time."""
        assert isinstance(after, int)  # noqa: S101 - as `place_of` makes them
        try:
            # The state is read before the events: a final state then means that no event is missing.
            run = find_run(tenant_id=self.tenant_id, run_id=self.run_id)
        except RunNotFoundError:
            return Batch([], after, end=DELETED)
        rows = EventRecord.objects.for_tenant(self.tenant_id).filter(run=run, seq__gt=after).order_by("seq")
        found = list(rows[: limit + 1])
        for event in found:
            event.run = run
        events = [LogRow.of(event) for event in found[:limit]]
        has_more, place = len(found) > limit, events[-1].seq if events else after
        if has_more or run.state not in TERMINAL_RUN_STATES:
            return Batch(events, place, has_more)
        if place < run.event_seq:  # it was deleted after its state was read
            return Batch(events, place, end=DELETED)
        return Batch(events, place, end=End("run_ended", f"The run has ended: {run.state}.", more={"state": run.state}))
