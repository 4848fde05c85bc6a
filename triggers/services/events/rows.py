"""Rows of event triggers: derived from published versions, found for the API."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from django.db import models
from django.utils import timezone
from pydantic import ValidationError

from events.cursor import Cursor
from pyflow.documents.models import WorkflowDef
from pyflow.triggers.declared import triggers_of
from pyflow.triggers.events import EventConfig
from runs.storage import log
from triggers.errors import EventTriggerMissingError, FailureMissingError
from triggers.models import EventTrigger, Expectation, TriggerFailure
from workflows.models import Version, Workflow
from workflows.services import plan_of


def sync_event_triggers(workflow: Workflow, version: Version | None) -> None:
    """Make the event triggers of a workflow those that ``version`` declares.

    One that keeps its id keeps its cursor: no event is passed over, and none taken twice. A new one begins with the
    events of transactions that begin after this one.
    """
    declared = {} if version is None else declared_event_triggers(plan_of(version).workflow)
    rows = EventTrigger.objects.for_tenant(workflow.tenant_id).filter(workflow=workflow)
    rows.exclude(trigger__in=declared).delete()
    if version is None or not declared:
        return
    known = {row.trigger: row for row in rows}
    for trigger, config in declared.items():
        row = known.get(trigger)
        stored = config.model_dump(mode="json", exclude_defaults=True)
        if row is None:
            row = EventTrigger(tenant_id=workflow.tenant_id, workflow=workflow, trigger=trigger)
            row.cursor = Cursor.end_of(log.position())
        elif row.config != stored:  # what the trigger expected until now, it does not expect any more
            Expectation.objects.for_tenant(row.tenant_id).filter(trigger=row).delete()
        is_changed = row.config != stored
        row.version, row.config = version.number, stored
        row.save()
        if is_changed:
            _arm(row, config)


def _arm(row: EventTrigger, config: EventConfig) -> None:
    """Expect the first event from now on, where no other one arms the trigger and all have one key."""
    if config.expect is None or config.after is not None or config.expect.key is not None:
        return
    now = timezone.now()
    Expectation.objects.create(
        tenant_id=row.tenant_id,
        trigger=row,
        key="",
        armed_at=now,
        due_at=now + timedelta(seconds=config.expect.within),
    )


def declared_event_triggers(definition: WorkflowDef) -> dict[str, EventConfig]:
    """Return the configs of event triggers by their ids."""
    found = {}
    for trigger in triggers_of(definition):
        if trigger.type != "event":
            continue
        try:
            found[trigger.id] = EventConfig.model_validate(dict(trigger.config))
        except ValidationError:  # of version 1, or from before triggers were checked
            continue
    return found


def event_triggers_of(tenant_id: UUID) -> models.QuerySet[EventTrigger]:
    """The event triggers of a tenant with their workflows, and the number of failures that are not resolved."""
    open_failures = models.Q(failures__state__in=("waiting", "dead"))
    rows = EventTrigger.objects.for_tenant(tenant_id).select_related("workflow")
    return rows.annotate(open_failures=models.Count("failures", filter=open_failures))


def tenants_with_event_triggers() -> frozenset[UUID]:
    """The ids of all tenants that have event triggers."""
    rows = EventTrigger.objects.across_tenants().order_by().values_list("tenant", flat=True)
    return frozenset(rows.distinct())


def find_event_trigger(*, tenant_id: UUID, trigger_id: UUID) -> EventTrigger:
    """A tenant's event trigger. Raises ``EventTriggerMissingError``."""
    row = event_triggers_of(tenant_id).filter(pk=trigger_id).first()
    if row is None:
        raise EventTriggerMissingError(f"There is no event trigger {trigger_id}.")
    return row


def failures_of(row: EventTrigger) -> models.QuerySet[TriggerFailure]:
    """The failures of an event trigger."""
    return TriggerFailure.objects.for_tenant(row.tenant_id).filter(trigger=row)


def lock_failure(*, row: EventTrigger, failure_id: UUID) -> TriggerFailure:
    """Lock a failure of an event trigger, and its workflow before it. Raises ``FailureMissingError``."""
    Workflow.objects.for_tenant(row.tenant_id).select_for_update(no_key=True).filter(pk=row.workflow_id).first()
    rows = failures_of(row).select_for_update(of=("self",), no_key=True).select_related("trigger__workflow")
    failure = rows.filter(pk=failure_id).first()
    if failure is None:
        raise FailureMissingError(f"The event trigger has no failure {failure_id}.")
    return failure
