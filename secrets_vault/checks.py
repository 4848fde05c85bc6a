"""What must be right before the vault can be used."""

from __future__ import annotations

from typing import Any

from django.core.checks import CheckMessage, Error

from secrets_vault.errors import VaultNotConfiguredError
from secrets_vault.keys import HOW_TO, wrapper


def check_master_keys(**_: Any) -> list[CheckMessage]:
    """There is a master key, and every one is well formed."""
    try:
        wrapper()
    except VaultNotConfiguredError as error:
        message = str(error).removesuffix(HOW_TO).strip()
        return [Error(message, hint=HOW_TO, id="secrets_vault.E001")]
    return []
