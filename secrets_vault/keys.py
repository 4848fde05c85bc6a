"""The keys that wrap the tenants' data keys, and the port behind which a key service can stand."""

from __future__ import annotations

import base64
import binascii
import itertools
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Protocol

from django.conf import settings

from secrets_vault.envelope import KEY_BYTES, NONCE_BYTES, seal, unseal
from secrets_vault.errors import MasterKeyUnknownError, VaultNotConfiguredError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HOW_TO = (
    "Set PYFLOW_MASTER_KEYS (or a file named by PYFLOW_MASTER_KEY_FILE) to `id:key`, where the key is 32 random bytes "
    "in base64, as from `openssl rand -base64 32`; with several, separated by commas, the first one wraps."
)


class KeyWrapper(Protocol):
    """Wraps and unwraps data keys with master keys that it knows by their ids."""

    @property
    def current(self) -> str:
        """The id of the master key that wraps from now on."""

    @property
    def known(self) -> frozenset[str]:
        """The ids of all master keys that unwrap."""

    def wrap(self, data_key: bytes, place: bytes) -> bytes:
        """``data_key`` wrapped with the current master key; it unwraps only at ``place``."""

    def unwrap(self, key_id: str, wrapped: bytes, place: bytes) -> bytes:
        """The data key. Raises ``MasterKeyUnknownError`` or ``SecretUnreadableError``."""


class LocalWrapper:
    """Master keys that this process holds. A wrapped key is the nonce and the ciphertext (60 bytes)."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)

    @classmethod
    def parse(cls, text: str) -> LocalWrapper:
        """The keys of ``id:base64,id:base64`` (or one a line). Raises ``VaultNotConfiguredError``, naming no key."""
        entries = [entry for entry in re.split(r"[,\s]+", text) if entry]
        if not entries:
            raise VaultNotConfiguredError(f"There is no master key, so no secret can be stored or read. {HOW_TO}")
        keys: dict[str, bytes] = {}
        for number, entry in enumerate(entries, start=1):
            key_id, _, encoded = entry.partition(":")
            if not _ID.fullmatch(key_id) or key_id in keys:
                raise VaultNotConfiguredError(f"Master key {number} has no id of its own before a colon. {HOW_TO}")
            keys[key_id] = _decode(key_id, encoded)
        return cls(keys)

    @property
    def current(self) -> str:
        """The id of the first key."""
        return next(iter(self._keys))

    @property
    def known(self) -> frozenset[str]:
        return frozenset(self._keys)

    def guessable(self) -> list[str]:
        """List the ids of keys that are no 32 random bytes: repetitions, sequences and text."""
        return [key_id for key_id, key in self._keys.items() if _is_guessable(key)]

    def wrap(self, data_key: bytes, place: bytes) -> bytes:
        nonce, ciphertext = seal(self._keys[self.current], data_key, place)
        return nonce + ciphertext

    def unwrap(self, key_id: str, wrapped: bytes, place: bytes) -> bytes:
        key = self._keys.get(key_id)
        if key is None:
            raise MasterKeyUnknownError(
                f"A data key is encrypted with the master key {key_id!r}, which is not among PYFLOW_MASTER_KEYS. "
                "Add it behind the current one and run `manage.py rotate_master_key`."
            )
        return unseal(key, wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], place)


def _decode(key_id: str, encoded: str) -> bytes:
    try:
        key = base64.b64decode(encoded.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise VaultNotConfiguredError(f"The master key {key_id!r} is not {KEY_BYTES} bytes in base64. {HOW_TO}")
    return key


def _is_guessable(key: bytes) -> bool:
    """Return whether a key has a pattern that random bytes have in less than one of a billion cases."""
    steps = {(later - earlier) % 256 for earlier, later in itertools.pairwise(key)}
    return len(set(key)) < 18 or len(steps) < 8 or all(0x20 <= byte < 0x7F for byte in key)


def wrapper() -> KeyWrapper:
    """Return the wrapper of data keys of this installation. Raises ``VaultNotConfiguredError``."""
    return _parsed(settings.PYFLOW_MASTER_KEYS)


@lru_cache(maxsize=1)
def _parsed(text: str) -> KeyWrapper:
    return LocalWrapper.parse(text)
