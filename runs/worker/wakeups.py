"""What an executor has been told, and not looked at yet. For one event loop."""

from __future__ import annotations

import asyncio

#: Once all places were taken, the next claim waits for this part of them to be free, but not longer than this: a claim
#: costs nearly the same for one run as for many. Seconds.
WORTH_A_CLAIM = 0.25
LONGEST_GATHERING = 0.02


class Bell:
    """Wakes an executor. ``rung``: there may be runs to claim; ``told``: there may be news of those it executes."""

    def __init__(self) -> None:
        self.rung = True
        self.told = True
        self._changed = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None

    @property
    def is_claim_due(self) -> bool:
        """Whether there may be runs to claim, and it is worth the claim."""
        return self.rung and self._gathering is None

    def wake(self) -> None:
        """Something has changed."""
        self._changed.set()

    def ring(self) -> None:
        """There may be runs to claim."""
        self.rung = True
        self._changed.set()

    def tell(self) -> None:
        """There may be news."""
        self.told = True
        self._changed.set()

    def look(self) -> None:
        """There may be anything."""
        self.rung = True
        self.tell()

    def gather(self, free: int, places: int) -> None:
        """A run has ended, so ``free`` of ``places`` are, and another of its tenant may be executed."""
        self.rung = True
        if free >= places * WORTH_A_CLAIM:
            self._gathered()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(LONGEST_GATHERING, self._gathered)

    async def rest(self, seconds: float) -> None:
        """Until something changes, for so long at most. What has changed since ``begin`` counts."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    def begin(self) -> None:
        """What changes from here on has not been looked at."""
        self._changed.clear()

    def _gathered(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self._changed.set()
