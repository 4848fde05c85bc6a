"""Django's handle on the app."""

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    """Tenants and their keys."""

    name = "tenants"
    default_auto_field = "django.db.models.BigAutoField"
