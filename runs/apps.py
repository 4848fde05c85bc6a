"""Django's handle on the app."""

from django.apps import AppConfig


class RunsConfig(AppConfig):
    """Runs, their nodes and events."""

    name = "runs"
