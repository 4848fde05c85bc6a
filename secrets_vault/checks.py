"""System checks of the vault's settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error

from secrets_vault.errors import VaultNotConfiguredError
from secrets_vault.keys import HOW_TO, LocalWrapper, wrapper


def check_master_keys(**_: Any) -> list[CheckMessage]:
    """There is a master key, and every one is well formed."""
    try:
        wrapper()
    except VaultNotConfiguredError as error:
        message = str(error).removesuffix(HOW_TO).strip()
        return [Error(message, hint=HOW_TO, id="secrets_vault.E001")]
    return []


def check_master_keys_are_random(**_: Any) -> list[CheckMessage]:
    """No master key is one that somebody could guess. The keys of the check's own message are named by their ids."""
    try:
        weak = LocalWrapper.parse(settings.PYFLOW_MASTER_KEYS).guessable()
    except VaultNotConfiguredError:
        return []  # said by ``check_master_keys``
    return [
        Error(f"The master key {key_id!r} is not random: it can be guessed.", hint=HOW_TO, id="secrets_vault.E002")
        for key_id in weak
    ]
