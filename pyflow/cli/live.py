"""The live view of a run in a terminal. The only module that needs rich, and imported only for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from pyflow.cli.progress import Watcher
from pyflow.core.events import Event, EventType

#: More running nodes than this are counted, not listed.
MAX_LINES = 10
_STYLES = {"OK": "green", "ERROR": "red", "SKIPPED": "yellow", "CANCELLED": "yellow"}
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class LiveWatcher(Watcher):
    """Shows how many nodes are done and which are running; is gone when the run is over."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._done = 0
        self._running: dict[str, tuple[float, str]] = {}
        self._live = Live(
            console=Console(), get_renderable=self._picture, transient=True, refresh_per_second=10, screen=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def show(self, event: Event) -> None:
        """Take note; the view is redrawn on its own."""
        node_id = event.node_id
        if node_id is None:
            return
        if event.type is EventType.NODE_STARTED:
            self._running[node_id] = (time.monotonic(), "")
        elif event.type is EventType.NODE_PROGRESS and node_id in self._running:
            note = f"{event.data['fraction']:.0%} {event.data['message']}"
            self._running[node_id] = (self._running[node_id][0], note)
        elif event.type is EventType.NODE_RETRYING:
            self._running[node_id] = (time.monotonic(), f"waits for attempt {event.data['attempt'] + 1}")
        else:
            self._running.pop(node_id, None)
            self._done += 1

    def _picture(self) -> Group:
        return Group(*self._lines())

    def _lines(self) -> Iterator[Text]:
        now = time.monotonic()
        frame = _SPINNER[int(now * 10) % len(_SPINNER)]
        yield Text(f"{frame} {self._done}/{self._total} nodes done", style="bold")
        # A copy: nodes with a plain `def run` and the redraw are in other threads.
        running = list(self._running.items())
        for node_id, (since, note) in running[:MAX_LINES]:
            yield Text(f"  {node_id}  {now - since:.1f}s  {note}".rstrip(), style="cyan")
        if len(running) > MAX_LINES:
            yield Text(f"  and {len(running) - MAX_LINES} more", style="cyan")


def print_coloured(lines: list[str]) -> None:
    """Print result lines with their verdicts coloured (not where ``NO_COLOR`` is set); the text stays the same."""
    console = Console(highlight=False, soft_wrap=True)
    for line in lines:
        head, colon, rest = line.partition(": ")
        verdict = rest.partition(" ")[0]
        if line.startswith("  ") and verdict in _STYLES:
            style = _STYLES[verdict]
            coloured = f"[{style}]{verdict}[/{style}]{escape(rest[len(verdict) :])}"
            console.print(f"{escape(head)}{colon}{coloured}")
        else:
            console.print(escape(line))
