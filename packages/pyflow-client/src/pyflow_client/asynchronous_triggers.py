"""Operations on triggers of the client for code on an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from pyflow_client import trigger_calls
from pyflow_client.asynchronous_tenancy import AsyncTenantClient
from pyflow_client.calls import Filter
from pyflow_client.models import Page
from pyflow_client.paging import Pages
from pyflow_client.trigger_models import (
    Backfill,
    EventTrigger,
    HookDelivery,
    InboundHook,
    Schedule,
    ScheduleFire,
    SchedulePreview,
    SentEvents,
    TriggerFailure,
)


class AsyncTriggerClient(AsyncTenantClient):
    """A base of ``AsyncClient``: its methods about triggers."""

    async def schedules(self, **filters: Filter) -> AsyncIterator[Schedule]:
        """List schedules in the order in which they were made; filters are ``workflow``, ``state``, ``search``."""
        async for item in self._pages(Pages("api/v1/schedules", Page[Schedule], filters)):
            yield item

    async def schedule(self, schedule_id: str | UUID) -> Schedule:
        """Read a schedule with its next slot."""
        return await self._send(trigger_calls.schedule(schedule_id))

    async def pause_schedule(self, schedule_id: str | UUID, *, if_match: str | None = None) -> Schedule:
        """Pause a schedule, also over new versions; ``if_match`` is the ``ETag`` that must be its present one."""
        return await self._send(trigger_calls.pause_schedule(schedule_id, paused=True, if_match=if_match))

    async def resume_schedule(self, schedule_id: str | UUID, *, if_match: str | None = None) -> Schedule:
        """Resume a schedule with the first slot from now on; ``if_match`` is the ``ETag`` of its present state."""
        return await self._send(trigger_calls.pause_schedule(schedule_id, paused=False, if_match=if_match))

    async def fire_schedule(self, schedule_id: str | UUID) -> ScheduleFire:
        """Fire a schedule now, by its rule for overlap; ``Conflict`` if it is inactive."""
        return await self._send(trigger_calls.fire_schedule(schedule_id))

    async def preview_schedule(self, schedule_id: str | UUID, *, count: int = 10) -> SchedulePreview:
        """Return the next slots of a schedule, with notes on clock changes and rules."""
        return await self._send(trigger_calls.preview_schedule(schedule_id, count))

    async def backfill_schedule(
        self, schedule_id: str | UUID, begin: datetime, end: datetime, *, dry_run: bool = False
    ) -> Backfill:
        """Start a run for each slot from ``begin`` to before ``end`` that has had none; naive times are local."""
        return await self._send(trigger_calls.backfill_schedule(schedule_id, begin, end, dry_run=dry_run))

    async def schedule_fires(self, schedule_id: str | UUID, **filters: Filter) -> AsyncIterator[ScheduleFire]:
        """List what became of the slots of a schedule, the newest first; filters are ``state``, ``cause``…"""
        path = trigger_calls.schedule_path(schedule_id, "fires")
        async for item in self._pages(Pages(path, Page[ScheduleFire], filters)):
            yield item

    async def hooks(self, **filters: Filter) -> AsyncIterator[InboundHook]:
        """List inbound webhooks by path; the filter is ``workflow``."""
        async for item in self._pages(Pages("api/v1/hooks", Page[InboundHook], filters)):
            yield item

    async def hook(self, hook_id: str | UUID) -> InboundHook:
        """Read an inbound webhook with its URL."""
        return await self._send(trigger_calls.hook(hook_id))

    async def hook_deliveries(self, hook_id: str | UUID, **filters: Filter) -> AsyncIterator[HookDelivery]:
        """List the requests that came to an inbound webhook, the newest first; the filter is ``outcome``."""
        path = trigger_calls.hook_path(hook_id, "deliveries")
        async for item in self._pages(Pages(path, Page[HookDelivery], filters)):
            yield item

    async def event_triggers(self, **filters: Filter) -> AsyncIterator[EventTrigger]:
        """List event triggers, the oldest first; the filter is ``workflow``."""
        async for item in self._pages(Pages("api/v1/event-triggers", Page[EventTrigger], filters)):
            yield item

    async def event_trigger(self, trigger_id: str | UUID) -> EventTrigger:
        """Read an event trigger."""
        return await self._send(trigger_calls.event_trigger(trigger_id))

    async def trigger_failures(self, trigger_id: str | UUID, **filters: Filter) -> AsyncIterator[TriggerFailure]:
        """List events that an event trigger could start no run for, the newest first; the filter is ``state``."""
        path = trigger_calls.event_trigger_path(trigger_id, "failures")
        async for item in self._pages(Pages(path, Page[TriggerFailure], filters)):
            yield item

    async def retry_failure(self, trigger_id: str | UUID, failure_id: str | UUID) -> TriggerFailure:
        """Try a failed event again now; ``Conflict`` if it is resolved."""
        return await self._send(trigger_calls.retry_failure(trigger_id, failure_id))

    async def send_event(
        self,
        type: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: str | None = None,
        source: str = "",
        subject: str = "",
    ) -> SentEvents:
        """Append an event of your own to the log, once for each ``source`` and ``id``."""
        return await self._send(trigger_calls.send_event(type, data or {}, id, source, subject))
