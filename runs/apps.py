"""Django's handle on the app."""

from django.apps import AppConfig


class RunsConfig(AppConfig):
    """Runs, their nodes and events."""

    name = "runs"

    def ready(self) -> None:
        """Answer what workflows ask about their runs, and record their changes."""
        # Models cannot be imported before all apps are there.
        from runs.dependents import RunsOfWorkflows, record_change  # noqa: PLC0415
        from workflows import dependents  # noqa: PLC0415

        dependents.attach(RunsOfWorkflows())
        dependents.follow(record_change)
