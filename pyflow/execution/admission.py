"""Admission of a run: takes the slot of ``settings.concurrency`` first, and holds it until the run ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from pyflow.core.states import RunState
from pyflow.execution.plan import KeyTemplate
from pyflow.execution.shared import ConcurrencyLimitError, SlotSource


def displaced(key: str) -> ConcurrencyLimitError:
    """Return the error of a run that is cancelled because a newer one takes its slot."""
    return ConcurrencyLimitError(f"cancelled to make room for a newer run of {key!r}")


class Admission:
    """The way of one run to its slot.

    ``begun``: the run was admitted once and only goes on here. It waits for its turn whatever ``on_limit`` says, for it
    may have effects that nobody would undo if it were refused. ``give_way`` is called when a newer run wants the slot.
    """

    def __init__(
        self,
        slots: SlotSource,
        concurrency: KeyTemplate,
        *,
        begun: bool,
        give_way: Callable[[ConcurrencyLimitError], object],
    ) -> None:
        self._slots = slots
        self._concurrency = concurrency
        self._on_limit = "queue" if begun else concurrency.on_limit
        self._give_way = give_way
        self._queueing: asyncio.Task[Any] | None = None
        self._left = False

    async def enter(self, stack: AsyncExitStack, names: Mapping[str, Any]) -> None:
        """Return with the slot, which ``stack`` gives back, or without one after ``leave_queue``.

        Raises ``SkippedByLimitError`` or ``ConcurrencyLimitError`` if ``on_limit`` refuses the run, ``RunParkedError``
        if it was parked, or what the template of the key raises.
        """
        key = str(self._concurrency.key.render(names))

        def give_way() -> None:
            self._give_way(displaced(key))

        slot = self._slots.hold_run(key, self._concurrency.limit, self._on_limit, give_way)
        task = self._queueing = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        try:
            await stack.enter_async_context(slot)
        except asyncio.CancelledError:
            # Ours, unless somebody cancelled the task besides.
            if not self._left or task.uncancel():
                raise
        finally:
            self._queueing = None

    def leave_queue(self) -> None:
        """Wait for the slot no more: the run has been stopped before it began, and only has to finish."""
        if self._queueing is not None and not self._left:
            self._left = True
            self._queueing.cancel()

    def refused_as(self) -> RunState:
        """Return the final state of a run that is refused."""
        return RunState.FAILED if self._on_limit == "fail" else RunState.CANCELLED
