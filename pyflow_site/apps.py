"""Django's handle on the project, the last of its apps."""

from django.apps import AppConfig

from pyflow_site import starting


class SiteConfig(AppConfig):
    """Ready when all others are."""

    name = "pyflow_site"

    def ready(self) -> None:
        """End the start: see ``starting``."""
        starting.end()
