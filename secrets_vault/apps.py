"""Django's handle on the app."""

from django.apps import AppConfig
from django.core.checks import Tags, register


class SecretsVaultConfig(AppConfig):
    """Encrypted secrets and their providers."""

    name = "secrets_vault"
    verbose_name = "Secrets"

    def ready(self) -> None:
        """Have the master keys checked with everything else."""
        from secrets_vault.checks import (  # noqa: PLC0415 - it needs the settings to be ready
            check_master_keys,
            check_master_keys_are_random,
        )

        register(check_master_keys, Tags.security)
        register(check_master_keys_are_random, Tags.security, deploy=True)
