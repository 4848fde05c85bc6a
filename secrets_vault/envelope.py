"""Authenticated encryption of one value: AES-256-GCM (NIST SP 800-38D) with random 96-bit nonces.

The additional data says where a ciphertext belongs. Every field of it has a fixed width, so no two places share one.
"""

from __future__ import annotations

import os
import struct
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from secrets_vault.errors import SecretUnreadableError

KEY_BYTES = 32
NONCE_BYTES = 12


def new_key() -> bytes:
    """A random key of 256 bits."""
    return AESGCM.generate_key(bit_length=KEY_BYTES * 8)


def seal(key: bytes, text: bytes, place: bytes) -> tuple[bytes, bytes]:
    """The nonce and the ciphertext (with its tag of 16 bytes) of ``text``, which only opens at ``place``."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce, AESGCM(key).encrypt(nonce, text, place)


def unseal(key: bytes, nonce: bytes, ciphertext: bytes, place: bytes) -> bytes:
    """Decrypt a value. Raises ``SecretUnreadableError`` for another key, another place or a changed ciphertext."""
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, place)
    except (InvalidTag, ValueError):  # a nonce or a ciphertext of a wrong length is a ValueError
        # `from None`: the cause says nothing, and a traceback may not show what was being decrypted.
        raise SecretUnreadableError("It cannot be decrypted: it was changed or moved.") from None


def version_place(tenant_id: UUID, secret_id: UUID, number: int, key_version: int) -> bytes:
    """Return the place (associated data) of the value of a secret's version."""
    return b"pyflow:secret:1\0" + tenant_id.bytes + secret_id.bytes + struct.pack(">II", number, key_version)


def data_key_place(tenant_id: UUID, key_version: int) -> bytes:
    """Return the place (associated data) of a wrapped data key."""
    return b"pyflow:data-key:1\0" + tenant_id.bytes + struct.pack(">I", key_version)


def row_place(kind: str, tenant_id: UUID, row_id: UUID, key_version: int) -> bytes:
    """Return the place (associated data) of the value of a row of another app; ``kind`` names its table."""
    return f"pyflow:{kind}:1\0".encode() + tenant_id.bytes + row_id.bytes + struct.pack(">I", key_version)
