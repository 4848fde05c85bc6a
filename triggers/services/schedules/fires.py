"""Fires slots: decides by the schedule's rules whether a slot starts a run now, later or never, and records it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet

from pyflow.core.errors import PyFlowError
from pyflow.core.events import EventType, rfc3339
from pyflow.core.messages import cut
from pyflow.core.states import TERMINAL_RUN_STATES, RunState
from pyflow.expressions.template import compile_value
from pyflow.triggers.schedule_config import Overlap, ScheduleConfig
from runs.errors import RunFinishedError, RunNotFoundError
from runs.models import Trigger
from runs.services.cancel import cancel_run
from runs.services.locks import lock_families
from runs.services.start import Start, start_run
from runs.services.terminate import terminate_run
from runs.storage import log
from runs.storage.text import storable_text
from tenants import audit
from tenants.access import Actor
from triggers.models.schedules import FireCause, FireState, PauseReason, Schedule, ScheduleFire

LIVE_RUN_STATES = [state.value for state in RunState if state not in TERMINAL_RUN_STATES]
#: Rules under which no slot starts before those that wait.
_IN_TURN = frozenset({Overlap.BUFFER_ONE, Overlap.BUFFER_ALL, Overlap.CANCEL_OTHER})
#: So many slots of a schedule wait at most; further ones are skipped.
MOST_BUFFERED = 1_000
#: Characters of the message of a start that was refused.
_MOST_MESSAGE = 2_000


def fire_slot(
    schedule: Schedule, slot: datetime, *, now: datetime, cause: FireCause, by: Actor | None = None
) -> ScheduleFire:
    """Record a slot of a schedule that the transaction has locked, and start its run unless the rules forbid it.

    A slot that has a row already is that row: it fires once. A start that is refused is noted in the row or, where
    somebody (``by``) waits for the answer, raised.
    """
    rows = fires_of(schedule).filter(scheduled_for=slot)
    if rows.exists() and (known := rows.first()) is not None:
        return known
    fire = ScheduleFire(tenant_id=schedule.tenant_id, schedule=schedule, scheduled_for=slot, cause=cause, fired_at=now)
    config = schedule.read_config()
    active = [] if config.overlap is Overlap.ALLOW_ALL else _active_fires(schedule)
    if active or _has_buffered(schedule, config):
        _overlap(schedule, config, fire, [active_fire.run_id for active_fire in active if active_fire.run_id], by)
    else:
        start(schedule, fire, now=now, by=by)
    fire.save(force_insert=True)
    return fire


def start(schedule: Schedule, fire: ScheduleFire, *, now: datetime, by: Actor | None = None) -> None:
    """Start the run of a slot, or note in its row why it was refused; the caller saves both rows."""
    fire.fired_at = now
    try:
        with transaction.atomic():  # what is refused leaves nothing behind
            begin = Start(
                input=_input(schedule, fire, now), key=f"schedule:{schedule.pk}:{fire.scheduled_for.isoformat()}"
            )
            run = start_run(
                by=by or acting(schedule),
                workflow_name=str(schedule.workflow_id),
                start=begin,
                trigger=Trigger.SCHEDULE,
            ).run
    except PyFlowError as error:
        if by is not None:
            raise
        fire.has_no_run(FireState.FAILED, error.code, cut(storable_text(str(error)), _MOST_MESSAGE))
        schedule.failures += 1
        return
    fire.state, fire.run_id = FireState.STARTED, run.pk
    log.append_outside(
        tenant_id=schedule.tenant_id,
        type=EventType.TRIGGER_FIRED.value,
        at=now,
        workflow_name=run.workflow.name,
        version_number=run.version.number,
        data=facts(schedule, fire) | {"run_id": str(run.pk)},
    )


def _input(schedule: Schedule, fire: ScheduleFire, now: datetime) -> dict[str, Any]:
    trigger = {"id": schedule.trigger_id, "type": "schedule", "fired_at": rfc3339(now.timestamp())}
    trigger |= {"schedule_id": str(schedule.pk), "cause": str(fire.cause), "scheduled_for": _text(fire.scheduled_for)}
    rendered: dict[str, Any] = compile_value(schedule.read_config().input, typed=True).render({"trigger": trigger})
    return rendered


def facts(schedule: Schedule, fire: ScheduleFire) -> dict[str, Any]:
    """Return what events say about a slot."""
    return {
        "trigger": schedule.trigger_id,
        "kind": "schedule",
        "schedule_id": str(schedule.pk),
        "fire_id": str(fire.pk),
        "scheduled_for": _text(fire.scheduled_for),
        "cause": str(fire.cause),
    }


def _text(moment: datetime) -> str:
    return rfc3339(moment.timestamp())


def acting(schedule: Schedule) -> Actor:
    """Return the schedule as the actor of what it starts and stops."""
    return Actor(schedule.tenant_id, "system", f"schedule:{schedule.pk}", schedule.trigger_id)


def fires_of(schedule: Schedule) -> QuerySet[ScheduleFire]:
    """Return the rows of a schedule's slots."""
    rows: QuerySet[ScheduleFire] = ScheduleFire.objects.for_tenant(schedule.tenant_id).filter(schedule=schedule)
    return rows


def _active_fires(schedule: Schedule) -> list[ScheduleFire]:
    """Return the slots whose runs have not ended: asked of the runs themselves, whatever was noted of them."""
    return list(fires_of(schedule).filter(state=FireState.STARTED, run__state__in=LIVE_RUN_STATES))


def _has_buffered(schedule: Schedule, config: ScheduleConfig) -> bool:
    if config.overlap not in _IN_TURN:
        return False
    return fires_of(schedule).filter(state=FireState.BUFFERED).exists()


def _overlap(
    schedule: Schedule, config: ScheduleConfig, fire: ScheduleFire, active: list[UUID], by: Actor | None
) -> None:
    """Decide about a slot while an earlier one is active, or waits."""
    if config.overlap is Overlap.SKIP:
        fire.has_no_run(FireState.SKIPPED, "overlap", "The run of an earlier slot was still active.")
    elif config.overlap in (Overlap.BUFFER_ONE, Overlap.BUFFER_ALL):
        most = 1 if config.overlap is Overlap.BUFFER_ONE else MOST_BUFFERED
        if fires_of(schedule).filter(state=FireState.BUFFERED).count() >= most:
            message = f"The run of an earlier slot was still active, and the buffer was full ({most})."
            fire.has_no_run(FireState.SKIPPED, "buffer_full", message)
        else:
            fire.state = FireState.BUFFERED
    else:
        _replace_buffered(schedule)
        lock_families(schedule.tenant_id, active)
        if config.overlap is Overlap.CANCEL_OTHER:
            fire.state = FireState.BUFFERED  # it starts once what is cancelled has ended
            stop = cancel_run
        else:
            start(schedule, fire, now=fire.fired_at, by=by)
            stop = terminate_run
        for run_id in active:
            with suppress(RunFinishedError, RunNotFoundError):
                stop(by=acting(schedule), run_id=run_id)


def _replace_buffered(schedule: Schedule) -> None:
    waiting = fires_of(schedule).filter(state=FireState.BUFFERED).exclude(cause=FireCause.BACKFILL)
    waiting.update(
        state=FireState.SKIPPED, reason="superseded", message="A later slot took its place before it could start."
    )


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
