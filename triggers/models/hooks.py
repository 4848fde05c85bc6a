"""Inbound webhooks, and the deliveries that came to them."""

from __future__ import annotations

from django.db import models
from django.utils import timezone

from pyflow.core.ids import new_uuid
from pyflow.triggers.hooks import WebhookConfig
from tenants.scoping import TenantOwned
from workflows.models import Workflow


class InboundHook(TenantOwned):
    """A ``webhook`` trigger of a published version: requests to ``/hooks/{address}`` start runs of its workflow."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="hooks")
    trigger = models.CharField(max_length=128, help_text="Id of the trigger in the document.")
    version = models.PositiveIntegerField(help_text="Number of the version that declares it.")
    path = models.CharField(max_length=200)
    address = models.CharField(
        max_length=300, unique=True, help_text="The tenant's slug and the path: by it requests find their hook."
    )
    config = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    refused = models.PositiveBigIntegerField(default=0, editable=False, help_text="Requests that were not authentic.")
    refused_at = models.DateTimeField(null=True, editable=False, help_text="When the last of them came.")

    class Meta(TenantOwned.Meta):
        """A trigger has one row, and a path one hook."""

        abstract = False
        ordering = ("path",)
        constraints = (
            models.UniqueConstraint(fields=("tenant", "path"), name="hook_path_per_tenant"),
            models.UniqueConstraint(fields=("workflow", "trigger"), name="hook_per_trigger"),
        )

    def __str__(self) -> str:
        return self.address

    def declaration(self) -> WebhookConfig:
        """Return the config of the trigger, which was checked when its version was published."""
        return WebhookConfig.model_validate(self.config)


class DeliveryOutcome(models.TextChoices):
    """Results of a delivery."""

    ACCEPTED = "accepted", "Accepted"
    DUPLICATE = "duplicate", "Duplicate"
    FAILED = "failed", "Failed"


class HookDelivery(TenantOwned):
    """An authentic request to an inbound webhook, and its result. Bounded, and masked by the webhook's secrets."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    hook = models.ForeignKey(InboundHook, on_delete=models.CASCADE, related_name="deliveries")
    received_at = models.DateTimeField(default=timezone.now, editable=False)
    delivery_id = models.CharField(max_length=256, blank=True, default="", help_text="Given by the sender.")
    outcome = models.CharField(max_length=16, choices=DeliveryOutcome)
    run_id = models.UUIDField(null=True, editable=False, help_text="The run that it started.")
    error = models.JSONField(null=True, help_text="{code, message}.")
    method = models.CharField(max_length=8)
    content_type = models.CharField(max_length=200, blank=True, default="")
    size = models.PositiveIntegerField(help_text="Bytes of the body.")
    excerpt = models.TextField(blank=True, default="", help_text="The beginning of the body.")

    class Meta(TenantOwned.Meta):
        """The newest first."""

        abstract = False
        ordering = ("-received_at", "-id")
        indexes = (models.Index(fields=("hook", "-received_at", "-id"), name="hook_deliveries"),)

    def __str__(self) -> str:
        return f"{self.outcome} {self.received_at:%Y-%m-%d %H:%M:%S}"
