"""Routes of events and webhooks, below ``/api/v1/``."""

from django.urls import path

from events.api.deliveries import DeliveriesView, DeliveryView, RedeliverView
from events.api.tickets import TicketsView
from events.api.views import EventTypesView, LogView, RunEventsView
from events.api.webhooks import (
    PauseWebhookView,
    RedeliverWebhookView,
    ResumeWebhookView,
    RotateWebhookView,
    TestWebhookView,
    WebhooksView,
    WebhookView,
)

urlpatterns = [
    path("runs/<uuid:run_id>/events", RunEventsView.as_view(), name="run-events"),
    path("auth/tickets", TicketsView.as_view(), name="auth-tickets"),
    path("events", LogView.as_view(), name="events"),
    path("events/types", EventTypesView.as_view(), name="event-types"),
    path("webhooks", WebhooksView.as_view(), name="webhooks"),
    path("webhooks/<uuid:webhook_id>", WebhookView.as_view(), name="webhook"),
    path("webhooks/<uuid:webhook_id>/rotate", RotateWebhookView.as_view(), name="webhook-rotate"),
    path("webhooks/<uuid:webhook_id>/test", TestWebhookView.as_view(), name="webhook-test"),
    path("webhooks/<uuid:webhook_id>/pause", PauseWebhookView.as_view(), name="webhook-pause"),
    path("webhooks/<uuid:webhook_id>/resume", ResumeWebhookView.as_view(), name="webhook-resume"),
    path("webhooks/<uuid:webhook_id>/redeliver", RedeliverWebhookView.as_view(), name="webhook-redeliver"),
    path("deliveries", DeliveriesView.as_view(), name="deliveries"),
    path("deliveries/<uuid:delivery_id>", DeliveryView.as_view(), name="delivery"),
    path("deliveries/<uuid:delivery_id>/redeliver", RedeliverView.as_view(), name="delivery-redeliver"),
]
