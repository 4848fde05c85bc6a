"""The ``schedule`` trigger: by a cron expression or at an interval."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from pyflow.core.messages import show
from pyflow.documents.models import TriggerDef


class ScheduleTrigger:
    """A schedule as a workflow file declares it: ``{cron: "0 * * * *"}`` or ``{interval_seconds: 60}``.

    ``cron`` and ``interval_seconds`` are ``None`` where they are not given. Raises ``ValueError`` when neither is, and
    for a cron expression that does not have 5 parts.
    """

    def __init__(self, trigger: TriggerDef) -> None:
        config = trigger.config
        self.cron: Any = config.get("cron")
        self.interval_seconds: Any = config.get("interval_seconds")
        self.timezone: Any = config.get("timezone")
        if not self.cron and not self.interval_seconds:
            raise ValueError("a schedule trigger needs 'cron' or 'interval_seconds' in its config")
        if self.cron and len(self._parts()) != 5:
            raise ValueError(f"a cron expression must have 5 parts, not {len(self._parts())}: {show(self.cron)}")

    def register(self, scheduler: Any, callback: Callable[..., Awaitable[object] | object]) -> Any:
        """Add ``callback`` as a job to an APScheduler 3 scheduler and return the job."""
        return scheduler.add_job(callback, trigger=self._trigger())

    def _trigger(self) -> Any:
        if not self.cron:
            return IntervalTrigger(seconds=self.interval_seconds)
        names = ("minute", "hour", "day", "month", "day_of_week")
        return CronTrigger(**dict(zip(names, self._parts(), strict=True)), timezone=self.timezone)

    def _parts(self) -> list[str]:
        return self.cron.split() if isinstance(self.cron, str) else []
