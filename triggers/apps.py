"""Django's handle on the app."""

from django.apps import AppConfig


class TriggersConfig(AppConfig):
    """Schedules, inbound webhooks and event triggers."""

    name = "triggers"

    def ready(self) -> None:
        """Follow the changes of workflows: the rows of triggers are derived from their published versions."""
        # Models cannot be imported before all apps are there.
        from triggers.services.following import follow_change  # noqa: PLC0415
        from workflows import dependents  # noqa: PLC0415

        dependents.follow(follow_change)
