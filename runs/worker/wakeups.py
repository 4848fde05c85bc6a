"""Pending wake-ups of an executor: runs to claim, news for active runs. For one event loop."""

from __future__ import annotations

import asyncio

#: Once all places were taken, the next claim waits for this part of them to be free, but not longer than this: a claim
#: costs nearly the same for one run as for many. Seconds.
WORTH_A_CLAIM = 0.25
LONGEST_GATHERING = 0.02


class WakeUps:
    """Pending wake-ups. ``may_claim``: there may be runs to claim; ``has_news``: active runs may have news."""

    def __init__(self) -> None:
        self.may_claim = True
        self.has_news = True
        self._changed = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None

    @property
    def is_claim_due(self) -> bool:
        """Return whether there may be runs to claim, and it is worth the claim."""
        return self.may_claim and self._gathering is None

    def wake(self) -> None:
        """Wake the executor: something has changed."""
        self._changed.set()

    def note_queued(self) -> None:
        """Wake the executor: there may be runs to claim."""
        self.may_claim = True
        self._changed.set()

    def note_news(self) -> None:
        """Wake the executor: active runs may have news."""
        self.has_news = True
        self._changed.set()

    def note_gap(self) -> None:
        """Wake the executor: notifications may have been missed."""
        self.may_claim = True
        self.note_news()

    def gather(self, free: int, places: int) -> None:
        """Note that a run has ended: ``free`` of ``places`` are free, and another run of its tenant may be claimed."""
        self.may_claim = True
        if free >= places * WORTH_A_CLAIM:
            self._gathered()
        elif self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(LONGEST_GATHERING, self._gathered)

    async def wait(self, seconds: float) -> None:
        """Wait until something changes, at most so long. Changes since ``clear`` count."""
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    def clear(self) -> None:
        """Forget changes so far: the executor is about to look at everything."""
        self._changed.clear()

    def _gathered(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None
        self._changed.set()
