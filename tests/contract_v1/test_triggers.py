"""v1's triggers."""

from datetime import timedelta

import pytest
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.interval import IntervalTrigger

from pyflow.core.models import TriggerDef
from pyflow.triggers.schedule import ScheduleTrigger
from pyflow.triggers.webhook import WebhookTrigger


def schedule(**config: object) -> ScheduleTrigger:
    return ScheduleTrigger(TriggerDef(type="schedule", config=config))


async def callback() -> None:
    """Do nothing."""


def test_a_cron_schedule_registers_a_cron_trigger():
    trigger = schedule(cron="*/5 8 1 2 mon")
    assert (trigger.cron, trigger.interval_seconds) == ("*/5 8 1 2 mon", None)
    scheduler = AsyncIOScheduler()
    trigger.register(scheduler, callback)
    [job] = scheduler.get_jobs()
    assert job.func is callback
    assert isinstance(job.trigger, CronTrigger)
    fields = {field.name: str(field) for field in job.trigger.fields}
    assert [fields[name] for name in ("minute", "hour", "day", "month", "day_of_week")] == ["*/5", "8", "1", "2", "mon"]


def test_an_interval_schedule_registers_an_interval_trigger():
    trigger = schedule(interval_seconds=90)
    assert (trigger.cron, trigger.interval_seconds) == (None, 90)
    scheduler = AsyncIOScheduler()
    trigger.register(scheduler, callback)
    [job] = scheduler.get_jobs()
    assert isinstance(job.trigger, IntervalTrigger)
    assert job.trigger.interval == timedelta(seconds=90)


def test_a_schedule_without_either_is_a_value_error_naming_both():
    with pytest.raises(ValueError, match=r"cron.*interval_seconds"):
        schedule()


@pytest.mark.parametrize("cron", ["* * * *", "* * * * * *", "hourly"])
def test_a_cron_expression_has_5_parts(cron: str):
    with pytest.raises(ValueError, match="5 parts"):
        schedule(cron=cron)


def test_a_webhook_has_a_path():
    assert WebhookTrigger(TriggerDef(type="webhook", config={"path": "/orders"})).path == "/orders"


def test_the_path_of_a_webhook_is_the_root_by_default():
    assert WebhookTrigger(TriggerDef(type="webhook")).path == "/"
