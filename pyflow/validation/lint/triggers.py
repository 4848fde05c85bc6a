"""Warnings about the triggers of a workflow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import combinations, islice

from pyflow.core.document import make_pointer
from pyflow.core.errors import Problem
from pyflow.documents.models import WorkflowDef
from pyflow.triggers.declared import DeclaredTrigger, triggers_of
from pyflow.triggers.events import EventConfig
from pyflow.triggers.schedule_config import ScheduleConfig
from pyflow.triggers.verification import Scheme

#: Slots of each schedule that are compared: those of a year for one that fires daily.
_COMPARED = 366
#: More schedules than these are not compared with each other.
_MOST = 20
#: Warnings do not depend on the day on which a document is checked.
_FROM = datetime(2026, 1, 1, tzinfo=UTC)


def overlapping_crons(workflow: WorkflowDef) -> Iterator[Problem]:
    """Warn of two cron schedules that fire at the same moment, which starts two runs."""
    schedules = [(trigger, _slots(trigger)) for trigger in triggers_of(workflow) if trigger.type == "schedule"]
    found = [(trigger, slots) for trigger, slots in schedules if slots]
    for (first, slots), (second, others) in combinations(found[:_MOST], 2):
        if common := slots & others:
            moment = min(common).isoformat().replace("+00:00", "Z")
            message = f"the triggers {first.id!r} and {second.id!r} fire at the same moment, such as {moment}: two runs"
            yield Problem("overlapping_schedules", message, make_pointer((*second.path, "config", "cron")))


def _slots(trigger: DeclaredTrigger) -> frozenset[datetime]:
    if "cron" not in trigger.config:
        return frozenset()
    timetable = ScheduleConfig.model_validate(trigger.config).timetable(_FROM)
    return frozenset(islice(timetable.slots_after(max(_FROM, timetable.anchor)), _COMPARED))


def open_webhooks(workflow: WorkflowDef) -> Iterator[Problem]:
    """Warn of webhooks by which anybody starts runs."""
    for trigger in triggers_of(workflow):
        verify = trigger.config.get("verify")
        if trigger.type == "webhook" and isinstance(verify, dict) and verify.get("scheme") == Scheme.NONE:
            message = f"anybody who knows the URL of {trigger.id!r} starts runs: let the sender prove who it is"
            yield Problem("open_webhook", message, make_pointer((*trigger.path, "config", "verify")))


def own_events(workflow: WorkflowDef) -> Iterator[Problem]:
    """Warn of event triggers that events of the runs that they start fire again."""
    for trigger in triggers_of(workflow):
        if trigger.type != "event":
            continue
        config = EventConfig.model_validate(dict(trigger.config))
        names_itself = not config.workflow or workflow.name in config.workflow
        of_runs = any(name.startswith(("run.", "node.")) for name in config.on)
        if config.expect is None and names_itself and of_runs:
            message = (
                f"runs that {trigger.id!r} starts have such events, too, and start the next one: name other workflows"
                " in `workflow`"
            )
            yield Problem("event_loop", message, make_pointer((*trigger.path, "config")))
