"""Events as streams deliver them: made once, and shared by all clients that receive them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from events.cursor import Cursor
from events.reading import EventFilter
from plumbing.rest.formats import to_json
from pyflow.core.events import EventType
from runs.models import EventRecord

#: A place in a stream: the cursor of a tenant's log, or the ``seq`` of a run's events.
Place = Cursor | int
#: What is counted for an item in a queue beside its text. Bytes.
OVERHEAD: Final = 400


@dataclass(frozen=True, slots=True)
class LogRow:
    """An event of the log, with its text and with the facts by which streams choose."""

    tenant_id: UUID
    run_id: UUID | None
    cursor: Cursor
    seq: int
    type: str
    at: datetime
    workflow: str
    labels: Mapping[str, Any]
    body: str
    """The JSON of its shape (`EventShape`)."""
    _texts: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, event: EventRecord) -> LogRow:
        """Return the row of an event that was read with its run's workflow, version and labels."""
        shape, run = event.as_dict(), event.run
        return cls(
            tenant_id=event.tenant_id,
            run_id=event.run_id,
            cursor=Cursor.of(event),
            seq=event.seq,
            type=event.type,
            at=event.at,
            workflow=shape["workflow"] or "",
            labels={} if run is None else run.labels,
            body=to_json(shape).decode(),
        )

    @property
    def size(self) -> int:
        """Memory that it takes, roughly. Bytes."""
        return OVERHEAD + len(self.body)

    def once(self, name: str, make: Any) -> Any:
        """Return what ``make`` returns for the row, called once for all streams."""
        if name not in self._texts:
            self._texts[name] = make(self)
        return self._texts[name]

    def encoded_cursor(self) -> str:
        """Return the cursor of the place after it, as text."""
        text: str = self.once("cursor", lambda row: row.cursor.encode(row.tenant_id))
        return text


@dataclass(frozen=True, slots=True)
class Progress:
    """A report of a node about how far it is. It is in no log, and has no place."""

    body: str
    type: str = EventType.NODE_PROGRESS.value

    @property
    def size(self) -> int:
        """Memory that it takes, roughly. Bytes."""
        return OVERHEAD + len(self.body)


@dataclass(frozen=True, slots=True)
class End:
    """The last item of a stream, with the reason. ``status`` is that of the problem, if it is one."""

    reason: str
    detail: str
    status: int = 0
    more: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return ``{reason, detail, …}``."""
        return {"reason": self.reason, "detail": self.detail, **self.more}


Item = LogRow | Progress | End


def is_wanted(row: LogRow, wanted: EventFilter) -> bool:
    """Return whether a row meets a filter: in memory what ``EventFilter.select`` is in SQL."""
    if wanted.types and not any(_is_of_type(row.type, name) for name in wanted.types):
        return False
    if wanted.workflows and row.workflow not in wanted.workflows:
        return False
    if wanted.run_id is not None and row.run_id != wanted.run_id:
        return False
    if any(row.labels.get(name) != value for name, value in wanted.labels):
        return False
    return (wanted.since is None or row.at >= wanted.since) and (wanted.until is None or row.at < wanted.until)


def _is_of_type(type: str, name: str) -> bool:
    return type.startswith(name.removesuffix("*")) if name.endswith(".*") else type == name
