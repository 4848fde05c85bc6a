"""Django's handle on the app."""

from django.apps import AppConfig


class SecretsVaultConfig(AppConfig):
    """Encrypted secrets and their providers."""

    name = "secrets_vault"
