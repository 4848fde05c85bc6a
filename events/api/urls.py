"""Routes of events, below ``/api/v1/``."""

from django.urls import path

from events.api.views import EventTypesView, LogView

urlpatterns = [
    path("events", LogView.as_view(), name="events"),
    path("events/types", EventTypesView.as_view(), name="event-types"),
]
