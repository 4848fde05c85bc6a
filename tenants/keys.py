"""API keys: ``pyf_<env>_<id>_<secret><crc32>``.

The checksum detects a mistyped or made-up key before anything is looked up. The secret is 32 characters
of base 62 (190 bits); bcrypt, which sees 72 bytes at most, is given only it.
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from dataclasses import dataclass

import bcrypt

_ALPHABET = string.digits + string.ascii_letters
ID_LENGTH = 16
SECRET_LENGTH = 32
CHECKSUM_LENGTH = 6
ENVIRONMENTS = ("live", "test")
#: Of bcrypt, as a power of two: about 0.3 s, on purpose.
COST = 12
_KEY = re.compile(
    rf"(pyf_({'|'.join(ENVIRONMENTS)})_([0-9A-Za-z]{{{ID_LENGTH}}})_([0-9A-Za-z]{{{SECRET_LENGTH}}}))"
    rf"([0-9A-Za-z]{{{CHECKSUM_LENGTH}}})",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class ParsedKey:
    """The parts of a well-formed key."""

    text: str
    key_id: str
    secret: str


def make_key(env: str = "live") -> ParsedKey:
    """A new random key."""
    key_id, secret = _random(ID_LENGTH), _random(SECRET_LENGTH)
    body = f"pyf_{env}_{key_id}_{secret}"
    return ParsedKey(body + _checksum(body), key_id, secret)


def parse_key(text: str) -> ParsedKey | None:
    """The parts of a key; ``None`` if it is not one (wrong shape or checksum). No I/O, constant-time comparison."""
    match = _KEY.fullmatch(text)
    if match is None or not secrets.compare_digest(_checksum(match[1]), match[5]):
        return None
    return ParsedKey(text, match[3], match[4])


def hash_secret(secret: str) -> str:
    """The bcrypt hash of a secret."""
    return bcrypt.hashpw(secret.encode(), bcrypt.gensalt(COST)).decode()


def check_secret(secret: str, hashed: str) -> bool:
    """Return whether a secret has this hash."""
    return bcrypt.checkpw(secret.encode(), hashed.encode())


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(_ALPHABET))
        digits += _ALPHABET[digit]
    return digits
