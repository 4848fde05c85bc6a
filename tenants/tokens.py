"""Access tokens of users: JWTs (RFC 7519, RFC 9068), signed with Ed25519 or P-256 and checked without a look-up.

Which algorithm a token may be signed with follows from the key that its ``kid`` names, never from the token: there is
no ``none`` and nothing to confuse a public key with. A key is rotated by signing with a new one while the public half
of the old one goes on being accepted.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from jwt.algorithms import ECAlgorithm, OKPAlgorithm
from jwt.utils import base64url_encode

from pyflow.core.ids import new_id
from tenants.errors import InvalidTokenError, TokensDisabledError

AUDIENCE = "pyflow-api"
TYPE = "at+jwt"
#: How long an access token is good, and the chain of refresh tokens unless it is used. Seconds.
ACCESS_SECONDS = 900
REFRESH_SECONDS = 14 * 24 * 3600
#: By how much the clocks of two of our machines may differ. Seconds.
LEEWAY = 5
MAX_LENGTH = 4096
REFUSAL = "The access token is not valid."
_PEM = re.compile(r"-----BEGIN (?P<kind>[A-Z ]+)-----.+?-----END (?P=kind)-----", re.DOTALL)
Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
Public = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class Claims:
    """Claims of an access token: user, tenant, expiry (Unix seconds) and the login that it comes from."""

    user_id: int
    tenant_id: UUID
    family: UUID
    expires: float


@dataclass(frozen=True, slots=True)
class Key:
    """The public half of a key, its algorithm, and its name: the thumbprint of RFC 7638."""

    kid: str
    algorithm: str
    public: Public
    jwk: dict[str, str]


@dataclass(frozen=True, slots=True)
class Keyring:
    """The key that signs, and all that are accepted."""

    signer: Private
    kid: str
    keys: dict[str, Key]


def issue(*, user_id: int, tenant_id: UUID, family: UUID) -> str:
    """A new access token. Raises ``TokensDisabledError``."""
    ring, now = keyring(), int(time.time())
    claims = {
        "iss": settings.PYFLOW_JWT_ISSUER,
        "aud": AUDIENCE,
        "sub": str(user_id),
        "tenant": str(tenant_id),
        "sid": str(family),
        "jti": new_id(),
        "iat": now,
        "nbf": now,
        "exp": now + ACCESS_SECONDS,
    }
    return jwt.encode(claims, ring.signer, ring.keys[ring.kid].algorithm, {"kid": ring.kid, "typ": TYPE})


def read(text: str) -> Claims:
    """Verify a token and return its claims. Raises ``InvalidTokenError``, in the same words always."""
    if len(text) > MAX_LENGTH:
        raise InvalidTokenError(REFUSAL)
    try:
        header = jwt.get_unverified_header(text)
        key = keyring().keys.get(str(header.get("kid")))
        if key is None or header.get("typ") != TYPE:
            raise InvalidTokenError(REFUSAL)
        claims: dict[str, Any] = jwt.decode(
            text,
            key.public,
            algorithms=[key.algorithm],
            audience=AUDIENCE,
            issuer=settings.PYFLOW_JWT_ISSUER,
            leeway=LEEWAY,
            options={"require": ["iss", "aud", "sub", "iat", "nbf", "exp", "jti"]},
        )
        return Claims(int(claims["sub"]), UUID(claims["tenant"]), UUID(claims["sid"]), float(claims["exp"]))
    except (jwt.PyJWTError, TokensDisabledError, KeyError, ValueError, TypeError, AttributeError):
        raise InvalidTokenError(REFUSAL) from None


def jwks() -> dict[str, list[dict[str, str]]]:
    """The public keys as a JWK set (RFC 7517); an empty one where there are no tokens."""
    try:
        keys = keyring().keys.values()
    except TokensDisabledError:
        return {"keys": []}
    return {"keys": [key.jwk | {"kid": key.kid, "alg": key.algorithm, "use": "sig"} for key in keys]}


def keyring() -> Keyring:
    """The keys of the settings. Raises ``TokensDisabledError`` where there is none to sign with."""
    if not settings.PYFLOW_JWT_PRIVATE_KEY:
        raise TokensDisabledError("This installation issues no tokens: PYFLOW_JWT_PRIVATE_KEY is not set.")
    return _keyring(settings.PYFLOW_JWT_PRIVATE_KEY, settings.PYFLOW_JWT_PUBLIC_KEYS)


@cache
def _keyring(private: str, public: str) -> Keyring:
    signer = load_pem_private_key(_pems(private)[0], password=None)
    if not isinstance(signer, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey):
        raise ImproperlyConfigured("PYFLOW_JWT_PRIVATE_KEY is an Ed25519 or P-256 key in PEM, or a file with one")
    first = _key(signer.public_key())
    others = [_key(load_pem_public_key(pem)) for pem in (_pems(public) if public else [])]
    return Keyring(signer, first.kid, {key.kid: key for key in (first, *others)})


def _pems(text: str) -> list[bytes]:
    """The PEM blocks of a text, or of the file that it names. A variable may spell line ends as ``\\n``."""
    content = text.replace("\\n", "\n") if "-----BEGIN" in text else Path(text).read_text()
    blocks = [match[0].encode() for match in _PEM.finditer(content)]
    if not blocks:
        raise ImproperlyConfigured("PYFLOW_JWT_PRIVATE_KEY or PYFLOW_JWT_PUBLIC_KEYS holds no key in PEM")
    return blocks


def _key(public: object) -> Key:
    if isinstance(public, ed25519.Ed25519PublicKey):
        algorithm, jwk = "EdDSA", OKPAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
        algorithm, jwk = "ES256", ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        raise ImproperlyConfigured(
            "keys of tokens are Ed25519 or P-256: PYFLOW_JWT_PRIVATE_KEY, PYFLOW_JWT_PUBLIC_KEYS"
        )
    members = {str(name): str(value) for name, value in jwk.items() if name in {"crv", "kty", "x", "y"}}
    canonical = "{" + ",".join(f'"{name}":"{members[name]}"' for name in sorted(members)) + "}"
    return Key(base64url_encode(sha256(canonical.encode()).digest()).decode(), algorithm, public, members)
