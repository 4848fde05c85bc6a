"""Derives the rows of triggers from the versions of workflows, in the transaction of each change."""

from __future__ import annotations

from collections.abc import Callable

from pyflow.core.events import EventType
from triggers.services.events.rows import sync_event_triggers
from triggers.services.hooks.rows import sync_hooks
from triggers.services.schedules.rows import sync_schedules
from workflows.dependents import Change
from workflows.models import Version, VersionState, Workflow
from workflows.services import current_version

#: Makes the rows of one kind of trigger those of the version that runs start; without one, none fires any more.
Sync = Callable[[Workflow, Version | None], None]

#: One per kind of trigger.
SYNCS: tuple[Sync, ...] = (sync_schedules, sync_hooks, sync_event_triggers)


def follow_change(change: Change) -> None:
    """Bring the rows of all kinds of triggers in line with the version that runs of the workflow start now."""
    if change.type is EventType.WORKFLOW_CREATED or _is_draft(change):
        return  # the publication of what was created is a change of its own
    version = _startable_version(change)
    for sync in SYNCS:
        sync(change.workflow, version)


def _is_draft(change: Change) -> bool:
    return change.version is not None and change.version.state == VersionState.DRAFT


def _startable_version(change: Change) -> Version | None:
    if change.type is EventType.WORKFLOW_DELETED or change.workflow.archived_at is not None:
        return None
    if change.type is EventType.WORKFLOW_PUBLISHED and change.version is not None:
        return change.version
    version = current_version(change.workflow)
    return version if version.state == VersionState.PUBLISHED else None
