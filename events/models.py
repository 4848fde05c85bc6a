"""Webhook endpoints of tenants, their secrets and deliveries, and tickets for streams."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from django.db import models
from django.utils import timezone

from events.cursor import Cursor
from events.reading import EventFilter
from pyflow.core.ids import new_uuid
from secrets_vault.envelope import row_place
from secrets_vault.models import DataKey, Sealed
from tenants.scoping import TenantManager, TenantOwned

MAX_URL = 2048
#: What the API calls the secrets of endpoints; Standard Webhooks.
SECRET_PREFIX = "whsec_"  # noqa: S105 - no secret
FIRST_ID = UUID(int=0)


class EndpointState(StrEnum):
    """State of an endpoint. Only `active` ones get deliveries; people pause them, the sender disables them."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class DeliveryState(StrEnum):
    """``pending``: there will be another attempt; ``exhausted``: the last attempt failed, too."""

    PENDING = "pending"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"


ENDPOINT_STATES = [(state.value, state.value) for state in EndpointState]
DELIVERY_STATES = [(state.value, state.value) for state in DeliveryState]


class WebhookEndpoint(TenantOwned):
    """A URL that is sent the events of its tenant that it wants.

    ``position``, ``seq`` and ``event_id`` are its cursor: for each wanted event before it there is a delivery.
    ``failing_since`` is the time of the first failed attempt after the last one that succeeded.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    url = models.CharField(max_length=MAX_URL)
    description = models.CharField(max_length=1000, blank=True, default="")
    types = models.JSONField(default=list, blank=True, help_text="Event types, such as `run.*`. Empty: all.")
    workflows = models.JSONField(default=list, blank=True, help_text="Names of workflows. Empty: all.")
    labels = models.JSONField(default=dict, blank=True, help_text="Labels that the run must have.")
    state = models.CharField(max_length=16, choices=ENDPOINT_STATES, default=EndpointState.ACTIVE.value)
    disabled_reason = models.CharField(max_length=32, blank=True, default="", editable=False)
    failing_since = models.DateTimeField(null=True, blank=True, editable=False)
    missed_at = models.DateTimeField(
        null=True,
        blank=True,
        editable=False,
        help_text="Time at which events were found removed before they were read.",
    )
    missed_to = models.BigIntegerField(default=0, editable=False)
    served_at = models.DateTimeField(
        default=timezone.now,
        editable=False,
        help_text="Time at which deliveries were last taken: the others come first.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)
    position = models.BigIntegerField(editable=False)
    seq = models.PositiveIntegerField(editable=False)
    event_id = models.UUIDField(editable=False)

    class Meta(TenantOwned.Meta):
        """Newest first."""

        abstract = False
        ordering = ("-id",)
        indexes = (
            models.Index(
                fields=("served_at",),
                name="webhooks_active",
                condition=models.Q(state=EndpointState.ACTIVE.value),
            ),
        )

    def __str__(self) -> str:
        return self.description or str(self.pk)

    @property
    def cursor(self) -> Cursor:
        """The place in the log up to which there are deliveries."""
        return Cursor(self.position, self.seq, self.event_id)

    @cursor.setter
    def cursor(self, cursor: Cursor) -> None:
        self.position, self.seq, self.event_id = cursor.position, cursor.seq, cursor.id

    @property
    def wanted(self) -> EventFilter:
        """The filter of its events."""
        labels = tuple(sorted(self.labels.items()))
        return EventFilter(types=tuple(self.types), workflows=tuple(self.workflows), labels=labels)


class WebhookSecret(Sealed):
    """A secret of an endpoint. A rotated one signs until ``expires_at``, beside its successor."""

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="secrets")
    expires_at = models.DateTimeField(null=True, editable=False)

    class Meta(TenantOwned.Meta):
        """Newest first."""

        abstract = False
        ordering = ("-id",)

    def __str__(self) -> str:
        return str(self.pk)

    def place(self, data_key: DataKey) -> bytes:
        return row_place("webhook-secret", self.tenant_id, self.pk, data_key.version)

    @property
    def owner_name(self) -> str:
        return f"webhook:{self.endpoint_id}"


class Delivery(TenantOwned):
    """An event that an endpoint is sent, with the exact body, which is the same in every attempt.

    ``attempts`` counts those on record, ``tries`` those since it was last (re)scheduled, by which the pause before the
    next one is chosen. ``epoch`` counts the claims: a sender that was replaced records nothing. While a sender has it,
    ``due_at`` is the end of the sender's lease.
    """

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.CASCADE, related_name="deliveries")
    event_id = models.UUIDField(editable=False)
    event_type = models.CharField(max_length=128, editable=False)
    event_at = models.DateTimeField(editable=False)
    run_id = models.UUIDField(null=True, editable=False)
    body = models.TextField(editable=False)
    state = models.CharField(max_length=16, choices=DELIVERY_STATES, default=DeliveryState.PENDING.value)
    attempts = models.PositiveIntegerField(default=0, editable=False)
    tries = models.PositiveIntegerField(default=0, editable=False)
    due_at = models.DateTimeField(null=True, editable=False)
    leased = models.BooleanField(default=False, editable=False)
    epoch = models.PositiveIntegerField(default=0, editable=False)
    last_status = models.PositiveIntegerField(null=True, editable=False)
    last_error = models.CharField(max_length=32, blank=True, default="", editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    class Meta(TenantOwned.Meta):
        """Newest first; one per endpoint and event."""

        abstract = False
        ordering = ("-id",)
        verbose_name_plural = "deliveries"
        constraints = (models.UniqueConstraint(fields=("endpoint", "event_id"), name="delivery_once"),)
        indexes = (
            models.Index(
                fields=("endpoint", "due_at"),
                name="deliveries_due",
                condition=models.Q(state=DeliveryState.PENDING.value),
            ),
            models.Index(fields=("endpoint",), name="deliveries_leased", condition=models.Q(leased=True)),
            models.Index(fields=("tenant", "-id"), name="deliveries_of_tenant"),
            models.Index(fields=("endpoint", "-id"), name="deliveries_of_endpoint"),
            models.Index(
                fields=("endpoint", "-id"),
                name="deliveries_exhausted",
                condition=models.Q(state=DeliveryState.EXHAUSTED.value),
            ),
            models.Index(
                fields=("tenant", "finished_at"),
                name="deliveries_finished",
                condition=models.Q(finished_at__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.event_type} {self.state}"

    @property
    def message_id(self) -> str:
        """The ``webhook-id``: the same in every attempt, by which receivers recognise what they have already."""
        return f"msg_{self.event_id.hex}"

    def reschedule(self, now: datetime) -> None:
        """Make it due now, with all the attempts of a new delivery before it; the row is not stored yet."""
        self.state, self.tries, self.due_at, self.finished_at = DeliveryState.PENDING.value, 0, now, None


class DeliveryAttempt(TenantOwned):
    """One request of a delivery, and what came of it."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="log")
    number = models.PositiveIntegerField()
    at = models.DateTimeField(help_text="Time of the request.")
    duration_ms = models.PositiveIntegerField()
    status = models.PositiveIntegerField(null=True, blank=True, help_text="HTTP status of the response.")
    error = models.CharField(max_length=32, blank=True, default="", help_text="Kind of failure; empty: 2xx.")
    excerpt = models.TextField(blank=True, default="", help_text="Beginning of the response, or of the error message.")

    class Meta(TenantOwned.Meta):
        """In order, once."""

        abstract = False
        ordering = ("delivery", "number")
        constraints = (models.UniqueConstraint(fields=("delivery", "number"), name="attempt_once"),)

    def __str__(self) -> str:
        return f"{self.number} {self.status or self.error}"


class StreamTickets(TenantManager["StreamTicket"]):
    """Tickets, which are looked up before it is known whose they are."""

    def presented(self, token_hash: str) -> StreamTicket | None:
        """The ticket that was presented; inside its ``lookup_scope``."""
        return self._unscoped().filter(token_hash=token_hash).first()


class StreamTicket(TenantOwned):
    """The right to open one stream, once, as the principal who asked for it. Deleted when it is used."""

    id = models.UUIDField(primary_key=True, default=new_uuid, editable=False)
    token_hash = models.CharField(max_length=64, unique=True, editable=False)
    principal_kind = models.CharField(max_length=8, editable=False)
    principal_id = models.CharField(max_length=64, editable=False)
    session = models.UUIDField(null=True, editable=False, help_text="The login of a member's token.")
    credential_ends_at = models.DateTimeField(null=True, editable=False)
    run_id = models.UUIDField(null=True, editable=False, help_text="The run whose events it opens; null: the log.")
    expires_at = models.DateTimeField(db_index=True, editable=False)

    objects: ClassVar[StreamTickets] = StreamTickets()

    class Meta(TenantOwned.Meta):
        """In the order in which they were issued."""

        abstract = False
        ordering = ("id",)

    def __str__(self) -> str:
        return f"ticket of {self.principal_kind} {self.principal_id}"
