"""Operations on schedules of the client for code on an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

from pyflow_client import trigger_calls
from pyflow_client.asynchronous_tenancy import AsyncTenantClient
from pyflow_client.calls import Filter
from pyflow_client.models import Page
from pyflow_client.paging import Pages
from pyflow_client.trigger_models import Backfill, Schedule, ScheduleFire, SchedulePreview


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
