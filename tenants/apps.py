"""Django's handle on the app."""

from django.apps import AppConfig
from django.core.checks import Tags, register


class TenantsConfig(AppConfig):
    """Tenants and their keys."""

    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have row-level security checked by ``manage.py check --database``, and by ``migrate``."""
        from tenants.checks import check_row_security  # noqa: PLC0415 - it needs the models to be there

        register(check_row_security, Tags.database)
