"""Django's handle on the app."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate, pre_migrate

from plumbing.database.dialect import allow_idle_transactions


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
        pre_migrate.connect(_take_time, sender=self)
        post_migrate.connect(_continue_log, sender=self)


def _take_time(*, using: str, **_: object) -> None:
    allow_idle_transactions(using)


def _continue_log(**_: object) -> None:
    from runs.storage.log import continue_log  # noqa: PLC0415 - see above

    continue_log()
