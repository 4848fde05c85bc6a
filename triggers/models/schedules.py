"""Schedules, the slots that they fired or did not fire, and the lease of the process that looks at them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from django.db import models
from django.utils import timezone

from pyflow.core.ids import new_uuid
from pyflow.triggers.schedule_config import ScheduleConfig
from pyflow.triggers.timetable import Timetable, jitter_of
from runs.models import Run
from tenants.scoping import TenantOwned
from workflows.models import Workflow

#: Characters of the id of a trigger: of v1 files, which have none, it is the type.
MAX_TRIGGER_ID = 128


class PauseReason(models.TextChoices):
    """The reason that a schedule is paused."""

    REQUESTED = "requested"
    FAILURES = "failures"
    INVALID = "invalid"
    """Its config cannot be used: in a file of version 1, which is not checked, or a zone that is gone."""


class Schedule(TenantOwned):
    """A schedule trigger of the published version of a workflow.

    ``next_at`` is the next slot and ``due_at`` the moment at which it fires, its jitter included. Both are empty while
    nothing can fire: the index of due schedules has only those that can.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="+", editable=False)
    trigger_id = models.CharField(max_length=MAX_TRIGGER_ID, editable=False)
    version_number = models.PositiveIntegerField(editable=False, help_text="Version that declares it.")
    config = models.JSONField(editable=False, help_text="Config of the trigger, as the document has it.")
    declared = models.BooleanField(
        default=True, editable=False, help_text="The published version has it, and the workflow is not archived."
    )
    anchor = models.DateTimeField(editable=False, help_text="Moment from which an interval is counted.")
    next_at = models.DateTimeField(null=True, blank=True, editable=False)
    due_at = models.DateTimeField(null=True, blank=True, editable=False)
    zone_rules = models.CharField(
        max_length=64, blank=True, default="", editable=False, help_text="Version of the time zones behind `next_at`."
    )
    paused_at = models.DateTimeField(null=True, blank=True, editable=False)
    pause_reason = models.CharField(max_length=16, choices=PauseReason.choices, blank=True, default="", editable=False)
    problem = models.TextField(blank=True, default="", editable=False, help_text="Why it was paused, for people.")
    failures = models.PositiveIntegerField(default=0, editable=False, help_text="Consecutive failures.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    revision = models.PositiveIntegerField(default=0, editable=False, help_text="Counter of changes, for the `ETag`.")

    class Meta(TenantOwned.Meta):
        """One row per trigger of a workflow, whatever versions come and go."""

        abstract = False
        ordering = ("id",)
        constraints = (models.UniqueConstraint(fields=("workflow", "trigger_id"), name="schedule_per_trigger"),)
        indexes = (
            models.Index(fields=("due_at", "id"), name="schedules_due", condition=models.Q(due_at__isnull=False)),
            models.Index(fields=("tenant", "id"), name="schedules_of_tenant"),
        )

    #: A config that was read, and what it was read from.
    _read: tuple[Any, ScheduleConfig] | None = None

    def __str__(self) -> str:
        return self.trigger_id

    @property
    def is_active(self) -> bool:
        """Return whether its slots fire."""
        return self.declared and self.paused_at is None

    def read_config(self) -> ScheduleConfig:
        """Return the config. Raises ``ValueError`` for one that cannot be used."""
        if self._read is None or self._read[0] is not self.config:
            self._read = (self.config, ScheduleConfig.of(self.config))
        return self._read[1]

    def timetable(self) -> Timetable:
        """Return the slots. Raises ``ValueError`` if the config cannot be used."""
        return self.read_config().timetable(self.anchor)

    def wait_for(self, slot: datetime | None, zone_rules: str) -> None:
        """Make ``slot`` the next one; ``None``: nothing fires any more."""
        self.next_at = self.due_at = slot
        if slot is not None:
            self.due_at = slot + jitter_of(self.pk, slot, self.read_config().jitter)
            self.zone_rules = zone_rules if self.read_config().has_zone else ""

    def touch(self) -> None:
        """Count a change that readers see."""
        self.revision, self.updated_at = self.revision + 1, timezone.now()


class FireState(models.TextChoices):
    """The state of a slot, from its time to the end of its run."""

    BUFFERED = "buffered"
    """It waits for an earlier run of the schedule to end."""
    STARTED = "started"
    """It started a run that had not ended when the scheduler last looked."""
    ENDED = "ended"
    """The run has ended; ``run_state`` has how."""
    SKIPPED = "skipped"
    """No run, by the schedule's own rules; ``reason`` has which."""
    MISSED = "missed"
    """No run: no scheduler worked when it was due, and it was not caught up."""
    FAILED = "failed"
    """No run: it could not be started; ``reason`` and ``message`` have why."""


class FireCause(models.TextChoices):
    """The occasion on which a slot is fired."""

    SCHEDULE = "schedule"
    CATCH_UP = "catch_up"
    MANUAL = "manual"
    BACKFILL = "backfill"


class ScheduleFire(TenantOwned):
    """A slot of a schedule that has passed: the run that it started, or why there is none.

    A row of missed slots is about ``count`` of them, from ``scheduled_for`` to ``until``.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    schedule = models.ForeignKey(Schedule, on_delete=models.CASCADE, related_name="+", editable=False)
    scheduled_for = models.DateTimeField(editable=False)
    until = models.DateTimeField(null=True, blank=True, editable=False)
    count = models.PositiveIntegerField(default=1, editable=False)
    cause = models.CharField(max_length=16, choices=FireCause.choices, editable=False)
    state = models.CharField(max_length=16, choices=FireState.choices, editable=False)
    reason = models.CharField(max_length=64, blank=True, default="", editable=False)
    message = models.TextField(blank=True, default="", editable=False)
    # Without a constraint: runs are removed by their own retention, which must neither wait for nor touch these rows.
    run = models.ForeignKey(
        Run, null=True, blank=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+", editable=False
    )
    run_state = models.CharField(max_length=16, blank=True, default="", editable=False)
    fired_at = models.DateTimeField(editable=False, help_text="Moment of the decision, or of the start.")

    class Meta(TenantOwned.Meta):
        """One row per slot, newest slots first: a slot can never start two runs."""

        abstract = False
        ordering = ("-scheduled_for",)
        constraints = (models.UniqueConstraint(fields=("schedule", "scheduled_for"), name="fire_per_slot"),)
        indexes = (
            models.Index(
                fields=("schedule", "scheduled_for"), name="fires_open", condition=models.Q(state=FireState.STARTED)
            ),
            models.Index(
                fields=("schedule", "scheduled_for"),
                name="fires_buffered",
                condition=models.Q(state=FireState.BUFFERED),
            ),
            models.Index(fields=("tenant", "fired_at"), name="fires_by_age"),
        )

    #: States in which nothing more happens.
    FINAL: ClassVar = (FireState.ENDED, FireState.SKIPPED, FireState.MISSED, FireState.FAILED)

    def __str__(self) -> str:
        return f"{self.schedule_id} {self.scheduled_for.isoformat()}"

    def has_no_run(self, state: FireState, reason: str, message: str) -> None:
        """Note that the slot starts no run, and why."""
        self.state, self.reason, self.message = state, reason, message


class TickerLease(models.Model):
    """The process that looks at schedules now. The lease saves work; rows and locks keep slots from firing twice."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    holder = models.CharField(max_length=128, blank=True, default="")
    term = models.PositiveBigIntegerField(default=0, help_text="Counts the changes of the holder.")
    until = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"term {self.term}: {self.holder}"
