"""The node type of the cases, and the ledger of what its code has done."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pyflow.core.node import NodeRegistry
from pyflow_sdk.node import NodeContext
from tests.model.language import ALWAYS, HANGS
from tests.support.factories.nodes import register


@dataclass(frozen=True)
class Call:
    """One attempt of ``label`` (a node, `node/item`, `~` and what is undone): that it began, or did what it does."""

    label: str
    attempt: int
    has_ended: bool
    saw: str


@dataclass
class Hold:
    """A moment at which whoever comes to it is kept until the case has been interrupted."""

    reached: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)


class Ledger:
    """What was called, in order. A run makes *ticks*: at calls, at their ends, before and after commits."""

    def __init__(self, moments: Iterable[int] = ()) -> None:
        self.holds = {moment: Hold() for moment in moments}
        self.calls: list[Call] = []
        #: The most that held one slot at a time.
        self.most = 0
        #: Whether there are moments now.
        self.is_counting = True
        self._inside: Counter[str] = Counter()
        self._ticks = 0
        self._lock = threading.Lock()

    async def tick(self) -> None:
        """Note that something happens, and stay if this is the moment for it."""
        with self._lock:
            self._ticks += self.is_counting
            hold = self.holds.get(self._ticks) if self.is_counting else None
        if hold is not None:
            hold.reached.set()
            while not hold.go.is_set():  # noqa: ASYNC110 - nodes and threads set it
                await asyncio.sleep(0.001)

    def note(self, call: Call) -> None:
        """Write a call down."""
        with self._lock:
            self.calls.append(call)

    def enter(self, slot: str) -> None:
        """Somebody works who holds a slot."""
        with self._lock:
            self._inside[slot] += 1
            self.most = max(self.most, self._inside[slot])

    def leave(self, slot: str) -> None:
        """Nobody works any more who held it."""
        with self._lock:
            self._inside[slot] -= 1


class Stage:
    """Registers ``act``, whose calls go to the ledger of the case that is played."""

    def __init__(self, registry: NodeRegistry) -> None:
        self.ledger = Ledger()
        self.registry = registry

        async def act(ctx: NodeContext, config: Any) -> str:
            ledger, slot = self.ledger, getattr(config, "slot", None)
            if slot is not None:
                ledger.enter(slot)
            try:
                return await _act(ledger, ctx, config)
            finally:
                if slot is not None:
                    ledger.leave(slot)

        register(registry, "act", act)


async def _act(ledger: Ledger, ctx: NodeContext, config: Any) -> str:
    saw, fails = getattr(config, "saw", ""), getattr(config, "fails", 0)
    ledger.note(Call(config.say, ctx.attempt, has_ended=False, saw=saw))
    await ledger.tick()
    await asyncio.sleep(getattr(config, "pace", 0) / 1000)
    if fails == HANGS:
        await asyncio.Event().wait()
    if fails == ALWAYS or ctx.attempt <= fails:
        raise RuntimeError(f"{config.say} fails")
    ledger.note(Call(config.say, ctx.attempt, has_ended=True, saw=saw))
    await ledger.tick()
    return f"{config.say}[{saw}]{getattr(config, 'token', '')}{getattr(config, 'padding', '')}"
