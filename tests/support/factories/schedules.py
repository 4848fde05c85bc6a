"""Schedules for tests, derived from published documents as in the product, and slots as they were decided about."""

import json
from datetime import UTC, datetime
from typing import Any

from pyflow.core.states import RunState
from runs.models import Run
from runs.services.end import TERMINATED, Ending, end_run
from tenants.models import Tenant
from tests.support.factories.rows import make_workflow
from triggers.models.schedules import Schedule, ScheduleFire

_SOURCE = """\
version: 2
name: {name}
inputs: {{type: object, properties: {{who: {{type: string}}, day: {{type: string}}}}}}
triggers: {triggers}
nodes:
  - {{id: greet, type: transform, config: {{input: hello, expression: "$"}}}}
"""


def moment(text: str) -> datetime:
    """A moment in UTC from text such as ``2026-03-29 01:00``."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def source(name: str = "nightly", **configs: dict[str, Any]) -> str:
    """A document with a schedule trigger for each config, by their ids."""
    triggers = [{"id": id, "type": "schedule", "config": config} for id, config in configs.items()]
    return _SOURCE.format(name=name, triggers=json.dumps(triggers))


def make_schedule(tenant: Tenant, config: dict[str, Any], *, next_at: str = "", name: str = "nightly") -> Schedule:
    """The only schedule of a new workflow; with ``next_at``, as if it had been published shortly before that slot."""
    version = make_workflow(tenant, source(name, main=config))
    schedule: Schedule = Schedule.objects.for_tenant(tenant).get(workflow=version.workflow)
    if next_at:
        schedule.anchor = moment(next_at)
        schedule.wait_for(moment(next_at), schedule.zone_rules)
        schedule.save()
    return schedule


def slots(schedule: Schedule) -> list[tuple[str, str]]:
    """The slots of a schedule in their order, with the state or, of one without a run, the reason."""
    rows = ScheduleFire.objects.for_tenant(schedule.tenant_id).filter(schedule=schedule).order_by("scheduled_for")
    return [(f"{row.scheduled_for:%Y-%m-%d %H:%M}", row.reason or str(row.state)) for row in rows]


def started(schedule: Schedule) -> list[Run]:
    """The runs of a schedule in the order of their slots."""
    rows = ScheduleFire.objects.for_tenant(schedule.tenant_id).filter(schedule=schedule, run__isnull=False)
    return [row.run for row in rows.select_related("run").order_by("scheduled_for") if row.run is not None]


def end(run: Run, state: RunState = RunState.SUCCEEDED) -> None:
    """End a run from outside, in any state."""
    ending = Ending(state, TERMINATED.node_state, "ended", "node_cancelled", "a test ended it", "Error")
    assert end_run(run_id=run.pk, ending=ending)
