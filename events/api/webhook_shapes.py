"""The shapes of webhook endpoints and deliveries over HTTP."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rest_framework import serializers

from events.models import (
    DELIVERY_STATES,
    ENDPOINT_STATES,
    MAX_URL,
    Delivery,
    DeliveryAttempt,
    DeliveryState,
    WebhookEndpoint,
)
from events.types import BY_TYPE
from plumbing.rest.conditional import etag
from plumbing.rest.pagination import PageQuery
from plumbing.rest.serializers import Strict

_TYPE = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(\.\*)?$"
_LABEL_NAME = r"[A-Za-z][A-Za-z0-9._/-]{0,62}"
_URL_HELP = (
    f"An `https` or `http` URL of at most {MAX_URL:,} characters, without credentials. Redirects are not followed, and "
    "private addresses are refused unless the operator opens them."
)
_TYPES_HELP = "Event types such as `run.failed`, or `run.*` for all that begin so. Empty: all types."
_WORKFLOWS_HELP = "Names of workflows. Empty: events of all workflows, and those that belong to none."
_LABELS_HELP = "Labels that the run of an event must have, all of them. Empty: any."


class TypesField(serializers.ListField):
    """A filter of event types, each without the types that there are not."""

    def __init__(self, **options: Any) -> None:
        child = serializers.RegexField(_TYPE, max_length=128)
        super().__init__(child=child, max_length=50, help_text=_TYPES_HELP, **options)

    def to_internal_value(self, data: Any) -> list[str]:
        """The types, if an event of each of them is kept in the log; types of custom events are free."""
        types: list[str] = super().to_internal_value(data)
        unstored = sorted(name for name in types if name in BY_TYPE and not BY_TYPE[name].stored)
        if unstored:
            raise serializers.ValidationError(f"Not kept in the log, so never sent: {', '.join(unstored)}.")
        return types


class LabelsField(serializers.DictField):
    """A filter of labels."""

    def __init__(self, **options: Any) -> None:
        super().__init__(child=serializers.CharField(max_length=255), help_text=_LABELS_HELP, **options)

    def to_internal_value(self, data: Any) -> dict[str, str]:
        """The labels, if their names can be those of labels."""
        labels: dict[str, str] = super().to_internal_value(data)
        if len(labels) > MOST_LABELS:
            raise serializers.ValidationError(f"There are more than {MOST_LABELS} labels.")
        wrong = [name for name in labels if not _is_label(name)]
        if wrong:
            raise serializers.ValidationError(
                "A label's name is a letter, then letters, digits, `.`, `_`, `-` and `/`: 63 characters at most."
            )
        return labels


MOST_LABELS = 10


def _is_label(name: str) -> bool:
    return re.fullmatch(_LABEL_NAME, name) is not None


def _workflows(**options: Any) -> serializers.ListField:
    child = serializers.CharField(max_length=128)
    return serializers.ListField(child=child, max_length=50, help_text=_WORKFLOWS_HELP, **options)


class CreateWebhook(Strict):
    """A new endpoint."""

    url = serializers.CharField(max_length=MAX_URL, help_text=_URL_HELP)
    description = serializers.CharField(required=False, default="", allow_blank=True, max_length=1000)
    types = TypesField(required=False, default=list)
    workflows = _workflows(required=False, default=list)
    labels = LabelsField(required=False, default=dict)


class UpdateWebhook(Strict):
    """Changes of an endpoint. What is left out stays."""

    url = serializers.CharField(required=False, max_length=MAX_URL, help_text=_URL_HELP)
    description = serializers.CharField(required=False, allow_blank=True, max_length=1000)
    types = TypesField(required=False)
    workflows = _workflows(required=False)
    labels = LabelsField(required=False)


class RotateWebhook(Strict):
    """Options of the replacement of an endpoint's secret."""

    force = serializers.BooleanField(
        required=False,
        default=False,
        help_text="Replace it although it was replaced within the last 24 hours: the secret before is dropped at once.",
    )


class ResumeWebhook(Strict):
    """The place from which an endpoint continues."""

    skip = serializers.BooleanField(
        required=False, default=False, help_text="Leave out the events that happened while nothing was sent."
    )


class RedeliverRange(Strict):
    """Which deliveries of an endpoint are sent again."""

    since = serializers.DateTimeField(
        required=False, default=None, help_text="Of events at or after this time (inclusive)."
    )
    until = serializers.DateTimeField(required=False, default=None, help_text="Of events before this time (exclusive).")
    states = serializers.MultipleChoiceField(
        choices=DELIVERY_STATES,
        required=False,
        default={DeliveryState.EXHAUSTED.value},
        help_text="Deliveries in these states. Default: those whose last attempt failed.",
    )


class WebhookShape(serializers.Serializer[Any]):
    """An endpoint."""

    id = serializers.UUIDField()
    url = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    types = serializers.ListField(child=serializers.CharField(), help_text=_TYPES_HELP)
    workflows = serializers.ListField(child=serializers.CharField(), help_text=_WORKFLOWS_HELP)
    labels = serializers.DictField(child=serializers.CharField(), help_text=_LABELS_HELP)
    state = serializers.ChoiceField(ENDPOINT_STATES)
    disabled_reason = serializers.CharField(
        allow_null=True, help_text="`gone` (it answered 410) or `failing` (only failures for 5 days)."
    )
    failing_since = serializers.DateTimeField(
        allow_null=True, help_text="Time of the first failed attempt since one succeeded."
    )
    missed_at = serializers.DateTimeField(
        allow_null=True,
        help_text="Time at which events were found to be removed before they were read: it had been paused for longer "
        "than events are kept.",
    )
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class NewWebhookShape(WebhookShape):
    """An endpoint with its new secret."""

    secret = serializers.CharField(
        allow_null=True, help_text="`whsec_…`. Shown only once; null in the response to a repeated request."
    )


class WebhookPageShape(serializers.Serializer[Any]):
    """A page of endpoints."""

    results = WebhookShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class DeliveriesQuery(PageQuery):
    """Filter of deliveries."""

    webhook = serializers.UUIDField(required=False, help_text="Only deliveries to this endpoint.")
    state = serializers.MultipleChoiceField(choices=DELIVERY_STATES, required=False)
    type = serializers.CharField(required=False, max_length=128, help_text="Type of the event.")
    run = serializers.UUIDField(required=False, help_text="Only events of this run.")
    since = serializers.DateTimeField(required=False, help_text="Of events at or after this time (inclusive).")
    until = serializers.DateTimeField(required=False, help_text="Of events before this time (exclusive).")


class DeliveryShape(serializers.Serializer[Any]):
    """A delivery."""

    id = serializers.UUIDField()
    webhook = serializers.UUIDField(help_text="The endpoint.")
    message_id = serializers.CharField(help_text="The `webhook-id`: the same in every attempt.")
    event_id = serializers.UUIDField()
    type = serializers.CharField(help_text="Type of the event.")
    event_at = serializers.DateTimeField()
    run_id = serializers.UUIDField(allow_null=True)
    state = serializers.ChoiceField(DELIVERY_STATES)
    attempts = serializers.IntegerField(help_text="Number of attempts on record.")
    next_attempt_at = serializers.DateTimeField(
        allow_null=True, help_text="While it is being sent: the time from which another sender may do it."
    )
    last_status = serializers.IntegerField(allow_null=True, help_text="HTTP status of the last response.")
    last_error = serializers.CharField(
        allow_null=True,
        help_text="Kind of the last failure: `status`, `timeout`, `connection`, `address_refused`, `invalid_request` "
        "or `secret_unreadable`.",
    )
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class DeliveryAttemptShape(serializers.Serializer[Any]):
    """An attempt of a delivery."""

    number = serializers.IntegerField()
    at = serializers.DateTimeField()
    duration_ms = serializers.IntegerField()
    status = serializers.IntegerField(allow_null=True, help_text="HTTP status of the response, if there was one.")
    error = serializers.CharField(allow_null=True)
    excerpt = serializers.CharField(
        allow_blank=True, help_text="Beginning of the response or, without one, the error message."
    )


class DeliveryDetailShape(DeliveryShape):
    """A delivery with its last attempts."""

    body = serializers.CharField(help_text="The body that is sent, exactly.")
    log = DeliveryAttemptShape(many=True, help_text="The last 50 attempts, oldest first.")


class DeliveryPageShape(serializers.Serializer[Any]):
    """A page of deliveries."""

    results = DeliveryShape(many=True)
    next = serializers.URLField(allow_null=True)
    previous = serializers.URLField(allow_null=True)


class RedeliveredShape(serializers.Serializer[Any]):
    """The number of deliveries that are sent again."""

    deliveries = serializers.IntegerField()
    has_more = serializers.BooleanField(help_text="Whether there are more: send the request again once these are sent.")


def show_webhook(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """``WebhookShape`` of a row."""
    return {
        "id": str(endpoint.pk),
        "url": endpoint.url,
        "description": endpoint.description,
        "types": endpoint.types,
        "workflows": endpoint.workflows,
        "labels": endpoint.labels,
        "state": endpoint.state,
        "disabled_reason": endpoint.disabled_reason or None,
        "failing_since": endpoint.failing_since,
        "missed_at": endpoint.missed_at,
        "created_at": endpoint.created_at,
        "updated_at": endpoint.updated_at,
    }


def show_delivery(delivery: Delivery) -> dict[str, Any]:
    """``DeliveryShape`` of a row."""
    return {
        "id": str(delivery.pk),
        "webhook": str(delivery.endpoint_id),
        "message_id": delivery.message_id,
        "event_id": str(delivery.event_id),
        "type": delivery.event_type,
        "event_at": delivery.event_at,
        "run_id": None if delivery.run_id is None else str(delivery.run_id),
        "state": delivery.state,
        "attempts": delivery.attempts,
        "next_attempt_at": delivery.due_at,
        "last_status": delivery.last_status,
        "last_error": delivery.last_error or None,
        "created_at": delivery.created_at,
        "finished_at": delivery.finished_at,
    }


def show_detail(delivery: Delivery, attempts: Iterable[DeliveryAttempt]) -> dict[str, Any]:
    """``DeliveryDetailShape`` of a row and its attempts."""
    log = [
        {
            "number": attempt.number,
            "at": attempt.at,
            "duration_ms": attempt.duration_ms,
            "status": attempt.status,
            "error": attempt.error or None,
            "excerpt": attempt.excerpt,
        }
        for attempt in attempts
    ]
    return show_delivery(delivery) | {"body": delivery.body, "log": log}


def tag(endpoint: WebhookEndpoint) -> str:
    """The entity tag of an endpoint."""
    return etag(endpoint.pk, endpoint.updated_at.isoformat(), endpoint.failing_since, endpoint.missed_at)
