"""Records what services do to runs: events, and entries of the audit."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pyflow.core.events import EventType
from runs.models import Run
from runs.storage import log
from tenants import audit
from tenants.access import Actor


def add_event(run: Run, type: EventType, at: datetime, **data: Any) -> None:
    """Add an event to those of a locked run, whose ``log.RUN_FIELDS`` are saved afterwards."""
    log.append(run, [(type, "", {"state": run.state} | data)], at=at)


def audit_action(by: Actor, action: str, run: Run, before: dict[str, Any]) -> None:
    """Add an entry to the audit: what a run was before, and its state now."""
    audit.record(by=by, action=action, target=f"run:{run.pk}", before=before, after={"state": run.state})
