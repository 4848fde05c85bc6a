"""Django's handle on the app."""

from django.apps import AppConfig

from workflows import dependents


class RunsConfig(AppConfig):
    """Runs, their nodes and events."""

    name = "runs"

    def ready(self) -> None:
        """Answer what workflows ask about their runs."""
        from runs.dependents import RunsOfWorkflows  # noqa: PLC0415 - models cannot be imported before all apps are there

        dependents.attach(RunsOfWorkflows())
