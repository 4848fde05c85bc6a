"""The log of a tenant's events, and the lines that nodes log."""

from __future__ import annotations

from typing import Any

from django.db import models

from pyflow.core.ids import new_uuid
from pyflow.core.messages import MAX_SHOWN, cut
from pyflow.execution.run_log import LEVELS
from runs.models.runs import Run
from tenants.scoping import TenantOwned

#: Characters of the type of an event, custom ones included.
MAX_EVENT_TYPE = 128
LOG_LEVELS = list(LEVELS.items())


class EventRecord(TenantOwned):
    """One event of a tenant's log: about a run, or (without one) about a workflow, a trigger or the tenant's own.

    ``seq`` is 1, 2, 3… without holes within a run, in the order in which its events were committed, and 0 outside of
    runs. ``position`` orders the log of a tenant (``runs.storage.log``). ``key`` is what the sender of a custom event
    identifies it by: a tenant has one event of each.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, null=True, related_name="events")
    seq = models.PositiveIntegerField()
    type = models.CharField(max_length=MAX_EVENT_TYPE)
    node_id = models.CharField(max_length=255, blank=True, default="")
    at = models.DateTimeField()
    data = models.JSONField(default=dict)
    position = models.BigIntegerField()
    workflow_name = models.CharField(max_length=128, blank=True, db_default="", help_text="Of an event without a run.")
    version_number = models.PositiveIntegerField(null=True, blank=True, help_text="Of an event without a run.")
    key = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 - no key is no empty key
    origin = models.JSONField(null=True, blank=True, help_text="{id, source, subject, time?} of a custom event.")

    class Meta(TenantOwned.Meta):
        """In order, once."""

        abstract = False
        db_table = "runs_runevent"
        ordering = ("run", "seq")
        constraints = (
            models.UniqueConstraint(fields=("run", "seq"), name="event_seq_per_run"),
            models.UniqueConstraint(
                fields=("tenant", "key"), name="event_once_per_key", condition=models.Q(key__isnull=False)
            ),
        )
        indexes = (
            models.Index(fields=("tenant", "position"), name="event_log"),
            models.Index(fields=("tenant", "at"), name="event_outside_runs", condition=models.Q(run__isnull=True)),
        )

    def __str__(self) -> str:
        return f"{self.seq} {self.type} {self.node_id}".strip()

    def as_dict(self) -> dict[str, Any]:
        """``{id, seq, type, at, tenant, workflow, version, run_id, node_id, data}``: its shape wherever it is shown.

        A custom event has ``origin`` besides.
        ``at`` is a datetime. The run (if there is one) is to have been read with its workflow and version.
        """
        run = self.run
        return {
            "id": self.pk,
            "seq": self.seq,
            "type": self.type,
            "at": self.at,
            "tenant": self.tenant_id,
            "workflow": (self.workflow_name or None) if run is None else run.workflow.name,
            "version": self.version_number if run is None else run.version.number,
            "run_id": self.run_id,
            "node_id": self.node_id or None,
            "data": self.data,
            **({} if self.origin is None else {"origin": self.origin}),
        }


class LogState(TenantOwned):
    """Position up to which a tenant's log was removed: a reader before ``removed_to`` has missed events."""

    tenant = models.OneToOneField("tenants.Tenant", on_delete=models.CASCADE, primary_key=True, related_name="+")
    removed_to = models.BigIntegerField(default=0)

    class Meta(TenantOwned.Meta):
        """One row per tenant of which events were removed."""

        abstract = False


class LogCounter(models.Model):
    """Counts the transactions that wrote to the log, where the database does not (SQLite): one row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    value = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.value)


class RunLog(TenantOwned):
    """A line that a node logged. ``seq`` is 1, 2, 3… without holes; the last one may say that there were more."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log")
    seq = models.PositiveIntegerField()
    node_id = models.CharField(max_length=255, blank=True, default="", help_text="Empty: a line about the log itself.")
    attempt = models.PositiveIntegerField(default=0)
    item = models.PositiveIntegerField(null=True, blank=True, help_text="The index of the item of a fan-out.")
    level = models.PositiveSmallIntegerField(choices=LOG_LEVELS)
    at = models.DateTimeField()
    message = models.TextField()

    class Meta(TenantOwned.Meta):
        """In order, once."""

        abstract = False
        ordering = ("run", "seq")
        constraints = (models.UniqueConstraint(fields=("run", "seq"), name="log_seq_per_run"),)

    def __str__(self) -> str:
        return f"{self.seq} {self.node_id}: {cut(self.message, MAX_SHOWN)}"
