"""Django's handle on the project, the last of its apps."""

from django.apps import AppConfig
from django.core.checks import Tags, register

from pyflow_site import starting


class SiteConfig(AppConfig):
    """Ready when all others are."""

    name = "pyflow_site"

    def ready(self) -> None:
        """Have what a deployment needs checked, and end the start: see ``starting``."""
        from pyflow_site.checks import check_hosts, check_signing_keys  # noqa: PLC0415 - they read the settings

        register(check_hosts, Tags.security, deploy=True)
        register(check_signing_keys, Tags.security, deploy=True)
        starting.end()
