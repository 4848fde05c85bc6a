"""The signals of a run: those that arrived before anybody waited, and each of them once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pyflow.core.suspension import Signal


class Mailbox:
    """Signals by name, oldest first."""

    def __init__(self, signals: Iterable[Signal] = ()) -> None:
        self._waiting: dict[str, deque[Signal]] = {}
        self._seen: set[str] = set()
        for signal in signals:
            self.put(signal)

    def put(self, signal: Signal) -> bool:
        """Keep a signal; ``False`` if one with its id was here before."""
        if signal.id is not None:
            if signal.id in self._seen:
                return False
            self._seen.add(signal.id)
        self._waiting.setdefault(signal.name, deque()).append(signal)
        return True

    def oldest(self, name: str) -> Signal | None:
        """The oldest signal of that name, which stays here."""
        signals = self._waiting.get(name)
        return signals[0] if signals else None

    def take(self, name: str) -> Signal | None:
        """The oldest signal of that name, which is then gone."""
        signals = self._waiting.get(name)
        return signals.popleft() if signals else None
