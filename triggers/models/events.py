"""Event triggers: readers of a tenant's log that start runs, their failures, and events that they expect."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from events.cursor import Cursor
from pyflow.core.ids import new_uuid
from pyflow.triggers.events import EventConfig
from tenants.scoping import TenantOwned
from workflows.models import Workflow


class EventTrigger(TenantOwned):
    """An ``event`` trigger of a published version, with its own cursor in the log of its tenant."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="event_triggers")
    trigger = models.CharField(max_length=128, help_text="Id of the trigger in the document.")
    version = models.PositiveIntegerField(help_text="Number of the version that declares it.")
    config = models.JSONField(default=dict)
    position = models.BigIntegerField(editable=False, help_text="Cursor: the place in the log up to which it has read.")
    seq = models.PositiveIntegerField(editable=False)
    event_id = models.UUIDField(editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    fired_at = models.DateTimeField(null=True, editable=False, help_text="When it last started a run.")

    class Meta(TenantOwned.Meta):
        """A trigger has one row."""

        abstract = False
        ordering = ("workflow", "trigger")
        constraints = (models.UniqueConstraint(fields=("workflow", "trigger"), name="event_trigger_per_trigger"),)

    def __str__(self) -> str:
        return self.trigger

    @property
    def cursor(self) -> Cursor:
        """The place in the log up to which the trigger has read."""
        return Cursor(self.position, self.seq, self.event_id)

    @cursor.setter
    def cursor(self, cursor: Cursor) -> None:
        self.position, self.seq, self.event_id = cursor.position, cursor.seq, cursor.id

    def declaration(self) -> EventConfig:
        """Return the config of the trigger, which was checked when its version was published."""
        return EventConfig.model_validate(self.config)


class FailureState(models.TextChoices):
    """States of a failure."""

    WAITING = "waiting", "Waiting for another attempt"
    DEAD = "dead", "Given up"
    RESOLVED = "resolved", "Resolved"


class TriggerFailure(TenantOwned):
    """An event that a trigger could not start a run for. It is tried again, apart from the events after it."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    trigger = models.ForeignKey(EventTrigger, on_delete=models.CASCADE, related_name="failures")
    slot = models.CharField(max_length=100, help_text="The event, or the expectation, that it is about.")
    facts = models.JSONField(help_text="What `trigger` is in templates.")
    depth = models.PositiveSmallIntegerField(default=0)
    error = models.JSONField(help_text="{code, message} of the last attempt.")
    attempts = models.PositiveIntegerField(default=1)
    state = models.CharField(max_length=16, choices=FailureState, default=FailureState.WAITING)
    due_at = models.DateTimeField(null=True, help_text="When it is tried again.")
    run_id = models.UUIDField(null=True, help_text="The run that an attempt started in the end.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        """The newest first. One for each trigger and event."""

        abstract = False
        ordering = ("-created_at", "-id")
        constraints = (models.UniqueConstraint(fields=("trigger", "slot"), name="failure_once"),)
        indexes = (
            models.Index(fields=("due_at",), name="failures_due", condition=models.Q(due_at__isnull=False)),
            models.Index(fields=("trigger", "-created_at", "-id"), name="failures_of_trigger"),
        )

    def __str__(self) -> str:
        return f"{self.slot} {self.state}"


class Expectation(TenantOwned):
    """An event that is to come by ``due_at``: its arrival removes the row, else the trigger fires."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    trigger = models.ForeignKey(EventTrigger, on_delete=models.CASCADE, related_name="expectations")
    key = models.CharField(max_length=64, help_text="Hash of what the arming and the expected event have in common.")
    armed_by = models.JSONField(null=True, help_text="The event that armed it; none: the publication of the trigger.")
    armed_at = models.DateTimeField()
    due_at = models.DateTimeField()
    depth = models.PositiveSmallIntegerField(default=0)

    class Meta(TenantOwned.Meta):
        """The next first. A trigger expects one event of each key."""

        abstract = False
        ordering = ("due_at",)
        constraints = (models.UniqueConstraint(fields=("trigger", "key"), name="expectation_per_key"),)
        indexes = (models.Index(fields=("due_at",), name="expectations_due"),)

    def __str__(self) -> str:
        return f"{self.trigger_id} by {self.due_at:%Y-%m-%d %H:%M:%S}"
