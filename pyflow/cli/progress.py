"""Progress output of a run: nothing, a line per event, or JSON events. The live view is in `live`."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from pyflow.cli.console import err, out
from pyflow.cli.console import to_json as _json
from pyflow.core.events import Event, EventType, posix


class Watcher:
    """An event sink that shows what happens between ``with`` and the end of the run; this one shows nothing."""

    def emit(self, event: Event) -> None:
        """Show the start of something, or progress."""
        self.show(event)

    async def commit(self, event: Event) -> None:
        """Show that something is over."""
        self.show(event)

    def show(self, event: Event) -> None:
        """Show one event."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        return None


class NdjsonWatcher(Watcher):
    """One JSON object a line on standard output, each as it happens (the shape of ``Event.as_dict``)."""

    def show(self, event: Event) -> None:
        """Print the event."""
        out(_json(event.as_dict()))


class LineWatcher(Watcher):
    """One line an event on standard error, with the seconds since the run began."""

    def __init__(self) -> None:
        self._began: float | None = None

    def show(self, event: Event) -> None:
        """Print the event."""
        if self._began is None:
            self._began = event.at
        what = event.node_id if event.node_id is not None else "run"
        verb = event.type.rpartition(".")[2]
        err(f"  +{event.at - self._began:.3f}s {what}: {verb}{_detail(event)}")


def _detail(event: Event) -> str:
    data: dict[str, Any] = event.data
    if event.type is EventType.NODE_STARTED and data["attempt"] > 1:
        return f" (attempt {data['attempt']})"
    if event.type is EventType.NODE_RETRYING:
        return f" in {max(0.0, posix(data['wake_at']) - event.at):.3g} s — {data['error']['message']}"
    if event.type is EventType.NODE_SKIPPED:
        return f" ({data['reason']})"
    if event.type is EventType.NODE_PROGRESS:
        return f" {data['fraction']:.0%} {data['message']}".rstrip()
    error = data.get("error")
    return f" — {error['message']}" if error else ""
