"""The ``schedule`` trigger: by a cron expression or at an interval."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from pyflow.core.models import TriggerDef


class ScheduleTrigger:
    """A schedule as a workflow file declares it: ``{cron: "0 * * * *"}`` or ``{interval_seconds: 60}``.

    ``cron`` and ``interval_seconds`` are ``None`` where they are not given. Raises ``ValueError`` when neither is.
    """

    def __init__(self, trigger: TriggerDef) -> None:
        config = trigger.config
        self.cron: Any = config.get("cron")
        self.interval_seconds: Any = config.get("interval_seconds")
        self.timezone: Any = config.get("timezone")
        if not self.cron and not self.interval_seconds:
            raise ValueError("a schedule trigger needs 'cron' or 'interval_seconds' in its config")

    def register(self, scheduler: Any, callback: Callable[..., Awaitable[object] | object]) -> Any:
        """Add ``callback`` as a job to an APScheduler 3 scheduler and return the job.

        Raises ``ValueError`` for a cron expression that does not have 5 parts.
        """
        return scheduler.add_job(callback, trigger=self._trigger())

    def _trigger(self) -> Any:
        # APScheduler takes a moment to import, and only a program with a scheduler of its own comes here.
        from apscheduler.triggers.cron import CronTrigger  # noqa: PLC0415
        from apscheduler.triggers.interval import IntervalTrigger  # noqa: PLC0415

        if not self.cron:
            return IntervalTrigger(seconds=self.interval_seconds)
        parts = self.cron.split() if isinstance(self.cron, str) else []
        if len(parts) != 5:
            raise ValueError(f"a cron expression must have 5 parts, not {len(parts)}: {self.cron!r}")
        names = ("minute", "hour", "day", "month", "day_of_week")
        return CronTrigger(**dict(zip(names, parts, strict=True)), timezone=self.timezone)
