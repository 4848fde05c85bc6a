"""The sender of webhooks: a thread that advances endpoints and sends what is due, woken by the event bus.

Any number of processes may have one: endpoints and deliveries are locked and leased. Where no tenant has an active
endpoint, it asks one question now and then.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from django.db import Error as DatabaseFailure
from django.db import connections
from django.utils import timezone

from events.webhooks.advancing import advance_endpoints, tenants_with_endpoints
from events.webhooks.endpoints import WEBHOOKS
from events.webhooks.retention import prune_deliveries
from events.webhooks.sending import Outcome, Taken, next_due_at, record_attempts, send, take_due
from pyflow.core.ports import Notification, Subscription
from pyflow.isolation.threads import NodeThreads
from runs.notify.current import current_bus
from runs.notify.notifications import events_topic

logger = logging.getLogger(__name__)
#: How many deliveries this process sends at a time.
PLACES = 200
#: Notifications within so many seconds lead to one look. Seconds.
GATHER_SECONDS = 0.05
#: When old deliveries are removed: after the start, and from then on. Seconds.
FIRST_PRUNE_SECONDS, PRUNE_SECONDS = 120.0, 3600.0
ResultT = TypeVar("ResultT")


class WebhookSender:
    """Sends webhooks from a thread of its own, which has the one database connection that it needs."""

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._run, name="pyflow-webhooks", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscription: Subscription | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin; it ends with the process."""
        self._thread.start()
        atexit.register(self.stop)

    def stop(self, timeout: float = 5.0) -> None:
        """End, waiting up to ``timeout`` seconds. What is being sent is sent again by another sender."""
        self._stopping = True
        self.wake()
        self._thread.join(timeout)
        atexit.unregister(self.stop)

    @property
    def is_subscribed(self) -> bool:
        """Return whether it is subscribed to the event bus."""
        return self._subscription is not None

    def wake(self) -> None:
        """Look at once; from any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # it is closed
                self._loop.call_soon_threadsafe(self._woken.set)

    def _run(self) -> None:
        while not self._stopping:
            # Not `asyncio.run`: that starts a thread to end the executor, and none starts when the interpreter ends.
            loop = asyncio.new_event_loop()
            try:
                loop.run_until_complete(self._serve())
            except Exception:  # what it was about is still in the tables
                logger.exception("the sender of webhooks broke off; it begins again")
                time.sleep(settings.PYFLOW_SWEEP_SECONDS)
            finally:
                loop.close()

    async def _serve(self) -> None:
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        # One for each request: a name server that does not answer keeps a thread for as long as it likes.
        self._loop.set_default_executor(NodeThreads(PLACES))
        self._sending: set[asyncio.Task[None]] = set()
        self._outcomes: asyncio.Queue[tuple[Taken, Outcome]] = asyncio.Queue()
        self._topics: frozenset[str] = frozenset()
        self._prune_at = time.monotonic() + FIRST_PRUNE_SECONDS
        # Not one of `concurrent.futures`: those take no more calls when the interpreter ends, before `stop` is called.
        with NodeThreads(1) as self._database:
            recording = asyncio.ensure_future(self._record())
            try:
                while not self._stopping:
                    self._woken.clear()
                    if recording.done():
                        recording.result()  # raises what ended it: nothing would be recorded any more
                    pause = await self._look()
                    with suppress(TimeoutError):
                        await asyncio.wait_for(self._woken.wait(), pause)
                    if not self._stopping:
                        await asyncio.sleep(GATHER_SECONDS)
            finally:
                if self._subscription is not None:
                    self._subscription.close()
                    self._subscription = None
                for task in self._sending:
                    task.cancel()
                await asyncio.gather(*self._sending, return_exceptions=True)
                recording.cancel()
                await asyncio.gather(recording, return_exceptions=True)
                await self._record_batch([])
                await self._ask(connections.close_all)

    async def _look(self) -> float:
        """Do what there is to do; return for how long there is nothing more, unless something happens. Seconds."""
        try:
            tenants = await self._ask(tenants_with_endpoints)
            self._subscribe(tenants)
            pause = await self._advance_and_send() if tenants else settings.PYFLOW_SWEEP_SECONDS
            if time.monotonic() >= self._prune_at:
                self._prune_at = time.monotonic() + PRUNE_SECONDS
                await self._ask(prune_deliveries)
        except DatabaseFailure as error:
            logger.warning("cannot look for webhooks to send, trying again: %s", error)
            await self._ask(connections.close_all)
            pause = settings.PYFLOW_SWEEP_SECONDS
        return pause

    async def _advance_and_send(self) -> float:
        is_behind = await self._ask(advance_endpoints)
        room = PLACES - len(self._sending)
        taken = await self._ask(lambda: take_due(room)) if room > 0 else []
        for item in taken:
            task = asyncio.ensure_future(self._deliver(item))
            self._sending.add(task)
            task.add_done_callback(self._done)
        if is_behind or taken:
            return 0.0
        due_at = await self._ask(next_due_at)
        if due_at is None:
            return settings.PYFLOW_SWEEP_SECONDS
        left = (due_at - timezone.now()).total_seconds()
        # What is due already waits for a place, which the end of a request gives.
        return min(settings.PYFLOW_SWEEP_SECONDS, left) if left > 0 else settings.PYFLOW_SWEEP_SECONDS

    async def _deliver(self, taken: Taken) -> None:
        outcome = await send(taken)
        if outcome is not None:
            self._outcomes.put_nowait((taken, outcome))

    async def _record(self) -> None:
        """Record outcomes as they come: those that have gathered meanwhile together."""
        while True:
            await self._record_batch([await self._outcomes.get()])

    async def _record_batch(self, batch: list[tuple[Taken, Outcome]]) -> None:
        while not self._outcomes.empty():
            batch.append(self._outcomes.get_nowait())
        try:
            recorded = await self._ask(lambda: record_attempts(batch))
        except DatabaseFailure as error:
            logger.warning("cannot record %d deliveries, which are sent again: %s", len(batch), error)
            await self._ask(connections.close_all)
            return
        if recorded < len(batch):
            logger.warning("fenced: %d deliveries are another sender's by now", len(batch) - recorded)
        self._woken.set()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a delivery failed, and is sent again", exc_info=error)

    def _subscribe(self, tenants: set[UUID]) -> None:
        """Be notified of events of the tenants that have an endpoint, and of changes of endpoints."""
        topics = frozenset({WEBHOOKS, *(events_topic(tenant_id) for tenant_id in tenants)})
        if topics != self._topics:
            before, self._topics = self._subscription, topics
            self._subscription = current_bus().subscribe(topics, self._receive)
            if before is not None:
                before.close()

    def _receive(self, _: Notification) -> None:
        self.wake()

    async def _ask(self, function: Callable[[], ResultT]) -> ResultT:
        # Shielded: what is asked next waits for the one thread, also where nobody waits for this any more.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._database, function))
