"""Shapes of schedules and their slots in the API."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework import serializers

from plumbing.rest.conditional import etag
from plumbing.rest.pagination import PageQuery
from plumbing.rest.serializers import Strict
from triggers.models.schedules import FireCause, FireState, Schedule, ScheduleFire
from triggers.services.schedules.previews import Preview
from triggers.services.schedules.verbs import MOST_SLOTS, BackfilledSlot

STATES = ("active", "paused", "finished", "inactive")
_STATE_HELP = (
    "`active`: its slots fire. `finished`: it has no further slot. `inactive`: the published version does not "
    "declare it, or its workflow is archived."
)


class SchedulesQuery(PageQuery):
    """Filter of schedules. Several values of one parameter match any of them."""

    workflow = serializers.ListField(
        child=serializers.CharField(max_length=128), required=False, max_length=50, help_text="Name of the workflow."
    )
    state = serializers.MultipleChoiceField(choices=STATES, required=False, help_text=_STATE_HELP)
    search = serializers.CharField(
        required=False, max_length=255, help_text="Part of a workflow's name, or of a trigger's id."
    )


class FiresQuery(PageQuery):
    """Filter of the slots of a schedule that have passed."""

    state = serializers.MultipleChoiceField(choices=FireState.values, required=False)
    cause = serializers.MultipleChoiceField(choices=FireCause.values, required=False)
    scheduled_after = serializers.DateTimeField(required=False, help_text="Slots at or after this time (inclusive).")
    scheduled_before = serializers.DateTimeField(required=False, help_text="Slots before this time (exclusive).")


class PreviewQuery(Strict):
    """Query parameters of a preview."""

    n = serializers.IntegerField(required=False, default=10, min_value=1, max_value=100, help_text="Number of slots.")


class ChangeSchedule(Strict):
    """A change of a schedule. Everything else about it is in the workflow's document."""

    paused = serializers.BooleanField(help_text="`true` pauses it, `false` lets it go on.")


class Backfill(Strict):
    """The range of a backfill."""

    to = serializers.DateTimeField(help_text="Slots before this time (exclusive), which is not in the future.")
    dry_run = serializers.BooleanField(required=False, default=False, help_text="Only list the slots; start nothing.")

    def get_fields(self) -> dict[str, Any]:
        """``from``, too, which is no name in Python."""
        start = serializers.DateTimeField(help_text="Slots at or after this time (inclusive).")
        return {"from": start} | super().get_fields()


class ScheduleShape(serializers.Serializer[Any]):
    """A schedule trigger of a workflow's published version, and when it fires next."""

    id = serializers.UUIDField()
    workflow = serializers.CharField()
    trigger = serializers.CharField(help_text="Id of the trigger in the document.")
    version = serializers.IntegerField(help_text="Version of the workflow that declares it.")
    state = serializers.ChoiceField(STATES, help_text=_STATE_HELP)
    config = serializers.DictField(help_text="Config of the trigger, as the document has it.")
    next_at = serializers.DateTimeField(allow_null=True, help_text="The next slot.")
    fires_at = serializers.DateTimeField(allow_null=True, help_text="When that slot fires, its jitter included.")
    paused_at = serializers.DateTimeField(allow_null=True)
    pause_reason = serializers.CharField(
        allow_null=True,
        help_text="`requested`; `failures`: as many in a row as `pause_after_failures`; `invalid`: its config cannot "
        "be used.",
    )
    problem = serializers.CharField(allow_blank=True, help_text="Why it was paused by itself, in words.")
    failures = serializers.IntegerField(help_text="Failures in a row: of its runs, and of starting them.")
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class SchedulesShape(serializers.Serializer[Any]):
    """A page of schedules."""

    results = ScheduleShape(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class FireShape(serializers.Serializer[Any]):
    """A slot that has passed: the run that it started, or why there is none."""

    id = serializers.UUIDField()
    scheduled_for = serializers.DateTimeField(help_text="The slot. Of missed ones: the first of them.")
    until = serializers.DateTimeField(allow_null=True, help_text="The last one of a range of missed slots.")
    count = serializers.IntegerField(help_text="Number of slots that this is about.")
    cause = serializers.ChoiceField(
        FireCause.values,
        help_text="`schedule`: its time came; `catch_up`: it was missed and fired later; `manual`, `backfill`: on "
        "request.",
    )
    state = serializers.ChoiceField(
        FireState.values,
        help_text="`buffered`: waits for an earlier run. `started`: its run has not ended. `ended`: its run has. "
        "`skipped`, `missed`, `failed`: it started no run, for the `reason`.",
    )
    reason = serializers.CharField(allow_blank=True, help_text="Stable code of why there is no run.")
    message = serializers.CharField(allow_blank=True, help_text="Why there is no run, in words.")
    run_id = serializers.UUIDField(allow_null=True)
    run_state = serializers.CharField(allow_null=True, help_text="State in which the run ended.")
    fired_at = serializers.DateTimeField(help_text="When it was decided about, or its run was started.")


class FiresShape(serializers.Serializer[Any]):
    """A page of slots, the newest first."""

    results = FireShape(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class NoteShape(serializers.Serializer[Any]):
    """A remark on a slot, or on all of them."""

    code = serializers.CharField(
        help_text="`dst_gap`, `dst_overlap`, `offset_changed`; `overlap_…` and `catch_up_…` with the rule; `paused`, "
        "`inactive`."
    )
    message = serializers.CharField()


class PreviewedSlotShape(serializers.Serializer[Any]):
    """A slot to come."""

    scheduled_for = serializers.DateTimeField()
    local = serializers.CharField(help_text="The slot in the schedule's time zone, with its offset.")
    fires_at = serializers.DateTimeField(help_text="When it fires, its jitter included.")
    notes = NoteShape(many=True)


class PreviewShape(serializers.Serializer[Any]):
    """The next slots of a schedule, and the rules that hold for all of them."""

    results = PreviewedSlotShape(many=True)
    notes = NoteShape(many=True)


class BackfilledSlotShape(serializers.Serializer[Any]):
    """A slot of a backfill."""

    scheduled_for = serializers.DateTimeField()
    starts = serializers.BooleanField(help_text="It starts a run. `false`: it has started one before, or will.")
    state = serializers.CharField(allow_null=True, help_text="What had become of the slot before, if it is known.")


class BackfillShape(serializers.Serializer[Any]):
    """The slots of a backfill, the earliest first."""

    count = serializers.IntegerField(help_text="Number of runs that it starts.")
    dry_run = serializers.BooleanField()
    slots = BackfilledSlotShape(many=True, help_text=f"At most {MOST_SLOTS:,}.")


def state_of(schedule: Schedule) -> str:
    """Return the state of a schedule as the API names it."""
    if not schedule.declared:
        return "inactive"
    if schedule.paused_at is not None:
        return "paused"
    return "finished" if schedule.due_at is None else "active"


_STATE_FILTERS: dict[str, dict[str, Any]] = {
    "inactive": {"declared": False},
    "paused": {"declared": True, "paused_at__isnull": False},
    "finished": {"declared": True, "paused_at__isnull": True, "due_at__isnull": True},
    "active": {"declared": True, "paused_at__isnull": True, "due_at__isnull": False},
}


def with_states(rows: QuerySet[Schedule], states: set[str]) -> QuerySet[Schedule]:
    """Select the schedules in one of some states."""
    chosen = rows.none()
    for state in states:
        chosen = chosen | rows.filter(**_STATE_FILTERS[state])
    return chosen


def show_schedule(schedule: Schedule) -> dict[str, Any]:
    """``ScheduleShape`` of a row with its workflow."""
    return {
        "id": schedule.pk,
        "workflow": schedule.workflow.name,
        "trigger": schedule.trigger_id,
        "version": schedule.version_number,
        "state": state_of(schedule),
        "config": schedule.config,
        "next_at": schedule.next_at,
        "fires_at": schedule.due_at,
        "paused_at": schedule.paused_at,
        "pause_reason": schedule.pause_reason or None,
        "problem": schedule.problem,
        "failures": schedule.failures,
        "created_at": schedule.created_at,
        "updated_at": schedule.updated_at,
    }


def show_fire(fire: ScheduleFire) -> dict[str, Any]:
    """``FireShape`` of a row."""
    return {
        "id": fire.pk,
        "scheduled_for": fire.scheduled_for,
        "until": fire.until,
        "count": fire.count,
        "cause": fire.cause,
        "state": fire.state,
        "reason": fire.reason,
        "message": fire.message,
        "run_id": fire.run_id,
        "run_state": fire.run_state or None,
        "fired_at": fire.fired_at,
    }


def show_preview(preview: Preview) -> dict[str, Any]:
    """``PreviewShape``."""
    slots = [
        {
            "scheduled_for": slot.scheduled_for,
            "local": slot.local.isoformat(),
            "fires_at": slot.fires_at,
            "notes": [{"code": note.code, "message": note.message} for note in slot.notes],
        }
        for slot in preview.slots
    ]
    return {"results": slots, "notes": [{"code": note.code, "message": note.message} for note in preview.notes]}


def show_backfill(slots: list[BackfilledSlot], *, dry_run: bool) -> dict[str, Any]:
    """``BackfillShape``."""
    shown = [
        {"scheduled_for": slot.scheduled_for, "starts": slot.starts, "state": slot.state or None} for slot in slots
    ]
    return {"count": sum(slot.starts for slot in slots), "dry_run": dry_run, "slots": shown}


def tag_of(schedule: Schedule) -> str:
    """Return the ``ETag`` of a schedule; it changes when it fires, too."""
    return etag("schedule", schedule.pk, schedule.revision, schedule.due_at, schedule.failures, schedule.paused_at)
