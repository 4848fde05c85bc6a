"""Start the runs of slots, and record pauses: all that schedules do in their own name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pyflow.core.errors import PyFlowError
from pyflow.core.events import EventType, rfc3339
from pyflow.core.messages import cut
from pyflow.expressions.template import compile_value
from runs.models import EventRecord, Run, Trigger
from runs.services.start import Start, Started, start_triggered
from runs.storage import log
from runs.storage.text import storable_text
from tenants import audit
from tenants.access import Actor
from triggers.models.schedules import FireState, PauseReason, Schedule, ScheduleFire

#: Characters of the message of a start that was refused.
_MOST_MESSAGE = 2_000


def start_fires(
    tenant_id: UUID, fires: Sequence[tuple[Schedule, ScheduleFire]], *, now: datetime, by: Actor | None = None
) -> None:
    """Start the runs of slots, or note in a row why its start was refused; the caller saves all rows.

    Where somebody (``by``) waits for the answer, the refusal is raised. The number of statements does not depend on
    that of the slots.
    """
    outcomes: list[Started | PyFlowError | None] = []
    starts: list[tuple[Actor, UUID, Start]] = []
    for schedule, fire in fires:
        fire.fired_at = now
        try:
            key = f"schedule:{schedule.pk}:{fire.scheduled_for.isoformat()}"
            start = Start(input=_input(schedule, fire, now), key=key)
        except PyFlowError as error:
            outcomes.append(error)
        else:
            outcomes.append(None)
            starts.append((by or acting(schedule), schedule.workflow_id, start))
    started = iter(start_triggered(tenant_id=tenant_id, trigger=Trigger.SCHEDULE, starts=starts) if starts else ())
    events: list[EventRecord] = []
    for (schedule, fire), refused in zip(fires, outcomes, strict=True):
        outcome = refused or next(started)
        if isinstance(outcome, Started):
            fire.state, fire.run_id = FireState.STARTED, outcome.run.pk
            events.append(_fired(schedule, fire, outcome.run, now))
        elif by is not None:
            raise outcome
        else:
            fire.has_no_run(FireState.FAILED, outcome.code, cut(storable_text(str(outcome)), _MOST_MESSAGE))
            schedule.failures += 1
    log.append_all_outside(tenant_id, events)


def _input(schedule: Schedule, fire: ScheduleFire, now: datetime) -> dict[str, Any]:
    trigger = {"id": schedule.trigger_id, "type": "schedule", "fired_at": rfc3339(now.timestamp())}
    trigger |= {"schedule_id": str(schedule.pk), "cause": str(fire.cause), "scheduled_for": _text(fire.scheduled_for)}
    rendered: dict[str, Any] = compile_value(schedule.read_config().input, typed=True).render({"trigger": trigger})
    return rendered


def _fired(schedule: Schedule, fire: ScheduleFire, run: Run, now: datetime) -> EventRecord:
    return EventRecord(
        type=EventType.TRIGGER_FIRED.value,
        at=now,
        workflow_name=run.workflow.name,
        version_number=run.version.number,
        data={
            "trigger": schedule.trigger_id,
            "kind": "schedule",
            "schedule_id": str(schedule.pk),
            "fire_id": str(fire.pk),
            "scheduled_for": _text(fire.scheduled_for),
            "cause": str(fire.cause),
            "run_id": str(run.pk),
        },
    )


def _text(moment: datetime) -> str:
    return rfc3339(moment.timestamp())


def acting(schedule: Schedule) -> Actor:
    """Return the schedule as the actor of what it starts and stops."""
    return Actor(schedule.tenant_id, "system", f"schedule:{schedule.pk}", schedule.trigger_id)


def pause_after_failures(schedule: Schedule, now: datetime) -> bool:
    """Pause a locked schedule that has failed as often in a row as its config allows; the caller saves it."""
    try:
        most = schedule.read_config().pause_after_failures
    except ValueError:
        return False
    if most is None or schedule.failures < most or schedule.paused_at is not None:
        return False
    schedule.paused_at, schedule.pause_reason = now, PauseReason.FAILURES
    schedule.problem = f"It was paused after {schedule.failures} failures in a row."
    schedule.next_at = schedule.due_at = None
    record_pause(acting(schedule), schedule, now)
    return True


def record_pause(by: Actor, schedule: Schedule, now: datetime) -> None:
    """Audit that a schedule was paused, or goes on, and append the event."""
    is_paused = schedule.paused_at is not None
    state: Mapping[str, Any] = {"trigger": schedule.trigger_id}
    if is_paused:
        state = {**state, "reason": schedule.pause_reason}
    action = "schedule.paused" if is_paused else "schedule.resumed"
    audit.record(by=by, action=action, target=f"schedule:{schedule.pk}", after=state)
    log.append_outside(
        tenant_id=schedule.tenant_id,
        type=(EventType.TRIGGER_PAUSED if is_paused else EventType.TRIGGER_RESUMED).value,
        at=now,
        workflow_name=schedule.workflow.name,
        version_number=schedule.version_number,
        data={"kind": "schedule", "schedule_id": str(schedule.pk), "by": by.as_dict(), **state},
    )
