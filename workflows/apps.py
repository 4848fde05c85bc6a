"""Django's handle on the app."""

from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    """Workflows and versions."""

    name = "workflows"
