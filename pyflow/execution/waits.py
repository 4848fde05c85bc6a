"""The nodes of a run that wait: for a time, a signal or a child run. None of them holds a task, but for its timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextvars import Context

from pyflow.core.ports import Clock
from pyflow.core.result import NodeRun
from pyflow.core.suspension import Signal, Suspension, awaited, is_of_items
from pyflow.execution.items import waits_of
from pyflow.execution.mailbox import Mailbox


class Waits:
    """Waiting nodes by index. ``wake`` is called with the index of a node whose time, signal or child has come.

    ``refusal`` says why a node, or an item of it, does not take a signal. A signal that nobody takes of those that wait
    for it is dropped, and reported to ``dropped`` with the node and the reason.
    """

    def __init__(
        self,
        clock: Clock,
        signals: Iterable[Signal],
        wake: Callable[[int], None],
        refusal: Callable[[str, Suspension, Signal], str | None],
        dropped: Callable[[str, Signal, str], None],
    ) -> None:
        self._clock = clock
        self._mailbox = Mailbox(signals)
        self._wake_node = wake
        self._refusal = refusal
        self._dropped = dropped
        self._runs: dict[int, NodeRun] = {}
        self._timers: dict[int, asyncio.Task[None]] = {}
        #: Signals of nodes that were woken by them: no longer there for others.
        self._taken: dict[NodeRun, Signal] = {}
        #: Child runs that ended before their node was here.
        self._ended: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._runs)

    def add(self, index: int, run: NodeRun, context: Context) -> None:
        """Wait with a node until its ``wake_at``, its signal or a child; if that has come already, wake it now."""
        self._runs[index] = run
        ended = self._ended.intersection(awaited(run.wait))
        if ended:
            self._ended -= ended
            self._wake(index)
        elif self._has_signal(run):
            self._wake(index)
        elif run.wake_at is not None:
            delay = run.wake_at - self._clock.time()
            if delay <= 0:
                # Now and not in a task, or a parked run would end in state `waiting` again, for ever.
                self._wake(index)
                return
            self._timers[index] = asyncio.get_running_loop().create_task(
                self._wake_after(index, delay), context=context
            )

    def deliver(self, signal: Signal) -> bool:
        """Give a signal to the node that waits for it, or keep it; ``False`` if it was here before."""
        if not self._mailbox.put(signal):
            return False
        for index, run in self._runs.items():
            if any(wait.signal == signal.name for wait in waits_of(run)) and self._has_signal(run):
                self._wake(index)
                break
        return True

    def child_ended(self, run_id: str) -> None:
        """Wake the node that waits for a child run, now or when it comes."""
        for index, run in self._runs.items():
            if run_id in awaited(run.wait):
                self._wake(index)
                return
        self._ended.add(run_id)

    def take(self, run: NodeRun) -> Signal | None:
        """The signal that a woken node waited for; ``None`` if its time came first."""
        return self._taken.pop(run, None) or self._next_signal(run)

    def take_for(self, node_id: str, wait: Suspension) -> Signal | None:
        """The signal that an item of a fan-out waits for, which is then gone; ``None`` if it has not come."""
        signal = None if wait.signal is None else self._mailbox.oldest(wait.signal)
        if signal is None or self._refusal(node_id, wait, signal) is not None:
            return None
        return self._mailbox.take(signal.name)

    def clear(self) -> list[asyncio.Task[None]]:
        """Wait no more; returns the timers, cancelled, for the caller to await."""
        timers = list(self._timers.values())
        for timer in timers:
            timer.cancel()
        self._timers.clear()
        self._runs.clear()
        return timers

    async def _wake_after(self, index: int, delay: float) -> None:
        await self._clock.sleep(delay)
        self._timers.pop(index, None)
        self._wake(index)

    def _wake(self, index: int) -> None:
        run = self._runs.pop(index, None)
        if run is None:
            return
        signal = None if is_of_items(run.wait) else self._next_signal(run)  # items take their own
        if signal is not None:
            self._taken[run] = signal
        timer = self._timers.pop(index, None)
        if timer is not None:
            timer.cancel()
        self._wake_node(index)

    def _has_signal(self, run: NodeRun) -> bool:
        """Return whether a signal is here that the node, or an item of it, takes; those before it are dropped."""
        waits: dict[str, list[Suspension]] = {}
        for wait in waits_of(run):
            if wait.signal is not None:
                waits.setdefault(wait.signal, []).append(wait)
        return any(self._has_one(run.id, name, those) for name, those in waits.items())

    def _has_one(self, node_id: str, name: str, waits: list[Suspension]) -> bool:
        while (signal := self._mailbox.oldest(name)) is not None:
            reasons = [self._refusal(node_id, wait, signal) for wait in waits]
            if None in reasons:
                return True
            self._mailbox.take(name)
            self._dropped(node_id, signal, str(reasons[0]))
        return False

    def _next_signal(self, run: NodeRun) -> Signal | None:
        """The signal that the node takes, which is then gone."""
        if run.wait is None or run.wait.signal is None or not self._has_signal(run):
            return None
        return self._mailbox.take(run.wait.signal)
