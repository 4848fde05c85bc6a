"""Django's handle on the app."""

from django.apps import AppConfig


class EventsConfig(AppConfig):
    """Events of tenants."""

    name = "events"
