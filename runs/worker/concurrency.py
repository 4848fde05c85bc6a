"""The concurrency slots of one claimed run, as the engine asks for them."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseFailure

from pyflow.execution.shared import ConcurrencyLimitError, RunParkedError, SkippedByLimitError
from runs.queue.leases import Claim
from runs.queue.slots import Ticket, Verdict, enter, enter_run, leave
from runs.storage.reader import Call, answered

logger = logging.getLogger(__name__)


class _Asked:
    """A task's request for a slot. ``turn`` is set when it holds the slot."""

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.displaced = False
        self.turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class DatabaseSlots:
    """The ``SlotSource`` of one claimed run. ``call`` runs a function on the executor's database thread.

    ``waiting`` counts, for the executor, what each of its runs waits for: nodes that wait for slots take no place.
    """

    def __init__(self, claim: Claim, call: Call, waiting: Counter[UUID]) -> None:
        self._claim = claim
        self._call = call
        self._waiting = waiting
        self._asked: dict[UUID, _Asked] = {}

    @property
    def tickets(self) -> list[UUID]:
        """Return the requests that need an answer, for ``settle``."""
        return list(self._asked)

    def settle(self, outcomes: Mapping[UUID, tuple[bool, bool]]) -> None:
        """Pass on what became of tickets: whether each holds a slot, and whether it is to make room."""
        for ticket_id, (held, displaced) in outcomes.items():
            asked = self._asked.get(ticket_id)
            if asked is None:
                continue
            if displaced and not asked.displaced:
                asked.displaced = True
                asked.task.cancel()
            elif held and not asked.turn.done():
                asked.turn.set_result(None)

    @asynccontextmanager
    async def hold(self, key: str, limit: int, on_limit: str, *, node_id: str = "") -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - coroutines run in tasks
        ticket = self._ticket(key, limit, on_limit, node_id=node_id, epoch=self._claim.epoch)
        asked = self._asked[ticket.id] = _Asked(task)
        try:
            # Asked before this is cancelled, if it is: `leave`, on the same thread, comes after it.
            await self._wait(asked, _admitted(await answered(self._call, enter, ticket), key, limit))
            yield
        except asyncio.CancelledError:
            if asked.displaced:
                raise ConcurrencyLimitError(f"cancelled to make room for a newer one of {key!r}") from None
            raise
        finally:
            del self._asked[ticket.id]
            await asyncio.shield(self._leave(ticket))

    @asynccontextmanager
    async def hold_run(
        self,
        key: str,
        limit: int,
        on_limit: str,
        give_way: Callable[[], object],  # noqa: ARG002 - of the protocol, see below
    ) -> AsyncIterator[None]:
        """Hold the slot of the run; it is released by the transaction that records the end of the run.

        ``give_way`` is not called: a run that is to make room is outcomes so like one that is cancelled.
        """
        ticket = self._ticket(key, limit, on_limit, epoch=None)
        if not _admitted(await answered(self._call, enter_run, ticket, self._claim.epoch), key, limit):
            raise RunParkedError(f"run {self._claim.run_id} waits for a slot of {key!r}")
        yield

    async def _leave(self, ticket: Ticket) -> None:
        try:
            await self._call(leave, ticket)
        except DatabaseFailure as error:
            logger.warning("a slot of %r is not given back before its run ends: %s", ticket.key, error)

    async def _wait(self, asked: _Asked, held: bool) -> None:
        if held:
            return
        run_id = self._claim.run_id
        self._waiting[run_id] += 1
        try:
            await asked.turn
        finally:
            self._waiting[run_id] -= 1
            if not self._waiting[run_id]:
                del self._waiting[run_id]

    def _ticket(self, key: str, limit: int, on_limit: str, *, node_id: str = "", epoch: int | None) -> Ticket:
        claim = self._claim
        return Ticket(
            tenant_id=claim.tenant_id,
            run_id=claim.run_id,
            key=key,
            limit=limit,
            on_limit=on_limit,
            priority=claim.priority,
            node_id=node_id,
            run_epoch=epoch,
        )


def _admitted(verdict: Verdict, key: str, limit: int) -> bool:
    if verdict is Verdict.SKIPPED:
        raise SkippedByLimitError(f"{limit} of {key!r} run already")
    if verdict is Verdict.REFUSED:
        raise ConcurrencyLimitError(f"{limit} of {key!r} run already")
    return verdict is Verdict.HELD
