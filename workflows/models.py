"""Workflows and their versions."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.scoping import TenantOwned


class Workflow(TenantOwned):
    """A named workflow. What it does is in its versions."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    name = models.CharField(max_length=128)
    description = models.TextField(blank=True, default="")
    labels = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        """Names are unique in a tenant."""

        abstract = False
        ordering = ("name",)
        constraints = (models.UniqueConstraint(fields=("tenant", "name"), name="workflow_name_per_tenant"),)

    def __str__(self) -> str:
        return self.name

    def latest(self) -> Version | None:
        """The newest version; ``None`` only while the first one is being written."""
        return Version.objects.for_tenant(self.tenant_id).filter(workflow=self).order_by("-number").first()


class ImmutableVersionError(TypeError):
    """A stored version was about to be changed."""


class Version(TenantOwned):
    """One state of a workflow, for ever. ``source`` is what was sent, ``definition`` what it means (canonical JSON)."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField(editable=False)
    source = models.TextField(editable=False)
    source_format = models.CharField(max_length=4, choices=(("yaml", "YAML"), ("json", "JSON")), editable=False)
    definition = models.TextField(editable=False)
    checksum = models.CharField(max_length=64, editable=False, help_text="SHA-256 of the canonical definition.")
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta(TenantOwned.Meta):
        """Numbers count from 1 in a workflow."""

        abstract = False
        ordering = ("workflow", "-number")
        constraints = (models.UniqueConstraint(fields=("workflow", "number"), name="version_number_per_workflow"),)

    def __str__(self) -> str:
        return f"{self.workflow_id} v{self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Store a new version; ``ImmutableVersionError`` for one that is stored already."""
        if not self._state.adding:
            raise ImmutableVersionError("a version never changes; make a new one")
        super().save(*args, **kwargs)
