"""Schedules as rows: derived from the published version, found, and locked."""

from __future__ import annotations

import json
import zoneinfo
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import UUID

from django.utils import timezone
from pydantic import ValidationError

from pyflow.core.misfits import in_words
from pyflow.triggers.declared import triggers_of_canonical
from triggers.errors import ScheduleNotFoundError
from triggers.models.schedules import FireState, PauseReason, Schedule, ScheduleFire
from workflows.models import Version, Workflow


def sync_schedules(workflow: Workflow, version: Version | None) -> None:
    """Make the schedules of a workflow those that the version declares, in the transaction that publishes it.

    One whose slots are the same keeps the next one, even if that is overdue; every other one waits for the first slot
    from now on. What was paused by a request stays so.
    """
    rows = Schedule.objects.for_tenant(workflow.tenant_id).filter(workflow=workflow)
    known = {row.trigger_id: row for row in rows.select_for_update(no_key=True).order_by("pk")}
    declared = {} if version is None else _declared(version)
    now = timezone.now()
    for trigger_id, config in declared.items():
        row = known.get(trigger_id)
        assert version is not None  # noqa: S101 - it has triggers
        if row is None:
            row = Schedule(tenant_id=workflow.tenant_id, workflow=workflow, trigger_id=trigger_id, anchor=now)
            row.declared, row.config = False, config
        _declare(row, config, version.number, now)
        row.save(force_insert=trigger_id not in known)
    for trigger_id in known.keys() - declared.keys():
        _withdraw(known[trigger_id])


def _declared(version: Version) -> dict[str, dict[str, Any]]:
    found = triggers_of_canonical(json.loads(version.definition))
    return {trigger.id: dict(trigger.config) for trigger in found if trigger.type == "schedule"}


def _declare(row: Schedule, config: dict[str, Any], number: int, now: datetime) -> None:
    is_same = row.declared and _has_same_slots(row.config, config)
    row.config, row.version_number, row.declared = config, number, True
    row.touch()
    if row.pause_reason == PauseReason.INVALID:
        unpause(row)
        is_same = False
    if not is_same:
        row.anchor = now
        wait_from(row, now)
    elif row.next_at is not None:  # the jitter may be another one
        row.wait_for(row.next_at, zone_rules())


def _has_same_slots(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    if before == after:
        return True
    try:
        old, new = Schedule(config=before).read_config(), Schedule(config=after).read_config()
    except ValueError:
        return False
    return old.same_slots(new)


def _withdraw(row: Schedule) -> None:
    if not row.declared:
        return
    row.declared, row.next_at, row.due_at = False, None, None
    row.touch()
    row.save()
    waiting = ScheduleFire.objects.for_tenant(row.tenant_id).filter(schedule=row, state=FireState.BUFFERED)
    waiting.update(
        state=FireState.SKIPPED,
        reason="withdrawn",
        message="The schedule was withdrawn before the slot could start: by a new version, or with its workflow.",
    )


def wait_from(row: Schedule, moment: datetime) -> None:
    """Make the first slot after ``moment`` the next one. An unusable config pauses the schedule and is its problem."""
    row.next_at = row.due_at = None
    if not row.is_active:
        return
    try:
        row.wait_for(row.timetable().next_after(moment), zone_rules())
    except ValueError as error:
        invalidate(row, error)


def invalidate(row: Schedule, error: ValueError) -> None:
    """Pause a schedule whose config cannot be used."""
    row.paused_at, row.pause_reason = timezone.now(), PauseReason.INVALID
    row.problem = in_words(error) if isinstance(error, ValidationError) else str(error)
    row.next_at = row.due_at = None


def unpause(row: Schedule) -> None:
    """Forget why and since when it was paused, and its failures."""
    row.paused_at, row.pause_reason, row.problem, row.failures = None, "", "", 0


def find_schedule(*, tenant_id: UUID, schedule_id: UUID) -> Schedule:
    """Return a schedule with its workflow. Raises ``ScheduleNotFoundError``."""
    row = Schedule.objects.for_tenant(tenant_id).select_related("workflow").filter(pk=schedule_id).first()
    if row is None:
        raise ScheduleNotFoundError(f"There is no schedule {schedule_id}.")
    return row


def workflow_of_schedule(*, tenant_id: UUID, schedule_id: UUID) -> Workflow | None:
    """Return the workflow of a schedule, if there is such a schedule."""
    row = Schedule.objects.for_tenant(tenant_id).select_related("workflow").filter(pk=schedule_id).first()
    return None if row is None else row.workflow


def lock_schedule(*, tenant_id: UUID, schedule_id: UUID) -> Schedule:
    """Lock a schedule and, before it, its workflow, as the publication of a version does."""
    found = find_schedule(tenant_id=tenant_id, schedule_id=schedule_id)
    workflows = Workflow.objects.for_tenant(tenant_id).filter(pk=found.workflow_id)
    workflow = workflows.select_for_update(no_key=True).first()
    row = Schedule.objects.for_tenant(tenant_id).filter(pk=schedule_id).select_for_update(no_key=True).first()
    if row is None or workflow is None:
        raise ScheduleNotFoundError(f"There is no schedule {schedule_id}.")
    row.workflow = workflow
    return row


@cache
def zone_rules() -> str:
    """Return the version of the rules of time zones that this process works with."""
    for folder in zoneinfo.TZPATH:
        for name in ("+VERSION", "tzdata.zi"):
            file = Path(folder) / name
            if file.is_file():
                with file.open(encoding="utf-8", errors="replace") as lines:
                    return lines.readline().removeprefix("# version ").strip()[:64]
    return f"tzdata {metadata.version('tzdata')}"[:64]
