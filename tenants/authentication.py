"""Whom a credential acts for.

A credential that was found good is believed for some seconds without asking the database again, and bcrypt is asked
once for as long as the process remembers it and the row keeps its hash. Every change
of somebody's access counts the tenant's ``auth_version`` up in its own transaction; ``tenant_scope`` reads that number
with the first query of a request, and a principal of another version is looked up anew.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from django.contrib.auth.models import User
from django.db.models import Subquery
from django.utils import timezone

from tenants import failures, quotas, tokens
from tenants.access import Permission, Principal, Role
from tenants.errors import InvalidKeyError, InvalidTokenError
from tenants.keys import ParsedKey, check_secret, hash_secret, parse_key
from tenants.models import ApiKey, Membership, RefreshToken, Tenant
from tenants.principals import CACHE_SECONDS, Checked, cache
from tenants.scoping import lookup_scope, tenant_scope

#: How often the time of a key's last use is written, at most. Seconds.
LAST_USED_SECONDS = 60.0
REFUSAL = "The API key is not valid."


def authenticate_key(*, text: str, address: str = "") -> Principal:
    """Return the principal of a key. Raises ``InvalidKeyError``, in the same words whatever is wrong with it.

    ``address`` is the caller's. Raises ``TooManyFailuresError`` for one that failed too often, or a key that was tried
    too often, unless this process has seen this very key succeed.
    """
    parsed = parse_key(text)
    if parsed is None:
        raise InvalidKeyError(REFUSAL)
    digest = cache.digest(text)
    principal = cache.principal(digest)
    if principal is not None:
        return principal
    with cache.one_at_a_time(digest):
        return cache.principal(digest) or _check(parsed, digest, address)


def authenticate_token(*, text: str) -> Principal:
    """Return the principal of an access token, with the member's present role. Raises ``InvalidTokenError``."""
    digest = cache.digest(text)
    principal = cache.principal(digest)
    if principal is not None:
        return principal
    claims = tokens.read(text)
    principal = principal_of_session(
        tenant_id=claims.tenant_id,
        user_id=claims.user_id,
        session=claims.family,
        ends_at=datetime.fromtimestamp(claims.expires, UTC),
    )
    now = time.monotonic()
    cache.put(digest, principal, until=now + min(CACHE_SECONDS, claims.expires + tokens.LEEWAY - time.time()))
    return principal


def principal_of_session(*, tenant_id: UUID, user_id: int, session: UUID, ends_at: datetime | None) -> Principal:
    """Return the member who logged in, with their present role. Raises ``InvalidTokenError``."""
    with tenant_scope(tenant_id, write=False):
        standing = standing_of(tenant_id, user_id)
        family = RefreshToken.objects.for_tenant(tenant_id).filter(family=session, user=user_id)
        if standing is None or standing.role is None or not family.filter(revoked_at__isnull=True).exists():
            raise InvalidTokenError(tokens.REFUSAL)
    return Principal(
        tenant_id=tenant_id,
        kind="user",
        id=str(user_id),
        name=standing.name,
        role=standing.role,
        user_id=user_id,
        auth_version=standing.auth_version,
        session=session,
        credential_ends_at=ends_at,
    )


def principal_of_key(*, tenant_id: UUID, key: UUID) -> Principal:
    """Return the principal of a key that was presented before. Raises ``InvalidKeyError`` if it has ended since."""
    with tenant_scope(tenant_id, write=False):
        row = ApiKey.objects.for_tenant(tenant_id).filter(pk=key).first()
    if row is None or not row.usable:
        raise InvalidKeyError(REFUSAL)
    return _principal(row)


def look_again(principal: Principal) -> Principal:
    """Return a principal as it is now. Raises ``InvalidKeyError`` or ``InvalidTokenError`` if its credential ended."""
    if principal.kind == "key":
        return principal_of_key(tenant_id=principal.tenant_id, key=UUID(principal.id))
    ends_at = principal.credential_ends_at
    if principal.session is None or (ends_at is not None and ends_at <= timezone.now()):
        raise InvalidTokenError(tokens.REFUSAL)
    return principal_of_session(
        tenant_id=principal.tenant_id, user_id=int(principal.id), session=principal.session, ends_at=ends_at
    )


def _check(parsed: ParsedKey, digest: bytes, address: str) -> Principal:
    subjects = (f"key:{parsed.key_id}", f"address:{address}")
    known = cache.get(digest)
    if known is not None:  # this very text was good once: the failures of others do not keep it out
        try:
            return _checked(parsed, digest, known)
        except InvalidKeyError:
            cache.forget(digest)  # it is an attempt like any other from now on
            raise
    with failures.attempt(*subjects):
        return _checked(parsed, digest, None)


def _checked(parsed: ParsedKey, digest: bytes, known: Checked | None) -> Principal:
    with lookup_scope(parsed.key_id):
        key = ApiKey.objects.presented(parsed.key_id)
    hashed = key.secret_hash if key is not None else _unknown_hash()
    proved = known is not None and known.proof == hashed
    # An unknown id costs as much as a wrong secret: response times must not reveal which ids exist.
    if not proved and not check_secret(parsed.secret, hashed):
        raise InvalidKeyError(REFUSAL)
    if key is None or not key.usable:
        raise InvalidKeyError(REFUSAL)
    principal = _principal(key)
    until = time.monotonic() + CACHE_SECONDS
    if principal.expires_at is not None:
        until = min(until, time.monotonic() + (principal.expires_at - timezone.now()).total_seconds())
    cache.put(digest, principal, proof=hashed, until=until)
    return principal


def _principal(key: ApiKey) -> Principal:
    """The key's principal; what it may do is no more than what its maker may do now."""
    now = timezone.now()
    with tenant_scope(key.tenant_id, write=False):
        standing = standing_of(key.tenant_id, key.created_by_id)
        # Read again after the version: had the key ended in between, this would be believed under its new version.
        current = ApiKey.objects.for_tenant(key.tenant_id).filter(pk=key.pk).first()
        if standing is None or current is None or not current.usable:
            raise InvalidKeyError(REFUSAL)
        key = current
        if key.last_used_at is None or (now - key.last_used_at).total_seconds() > LAST_USED_SECONDS:
            ApiKey.objects.for_tenant(key.tenant_id).filter(pk=key.pk).update(last_used_at=now)
    role = Role(key.role)
    if standing.role is not None:
        role = min(role, standing.role, key=lambda role: role.rank)
    scopes = None if key.scopes is None else frozenset(Permission(scope) for scope in key.scopes)
    return Principal(
        tenant_id=key.tenant_id,
        kind="key",
        id=str(key.pk),
        name=key.name,
        role=role,
        scopes=scopes,
        user_id=key.created_by_id,
        auth_version=standing.auth_version,
        expires_at=key.expires_at,
        credential_ends_at=key.expires_at,
    )


@dataclass(frozen=True, slots=True)
class Standing:
    """State and role of a user in a tenant; ``role`` is ``None`` where no user was asked about."""

    role: Role | None
    name: str
    auth_version: int


def standing_of(tenant_id: UUID, user_id: int | None) -> Standing | None:
    """The standing of a user in a tenant; inside the tenant's scope, one query.

    ``None`` if the tenant is gone or suspended, or if the user is gone, not active or no member.
    """
    rows = Tenant.objects.filter(pk=tenant_id, suspended_at__isnull=True)
    if user_id is not None:
        member = Membership.objects.for_tenant(tenant_id).filter(user=user_id, user__is_active=True)
        rows = rows.annotate(
            member_role=Subquery(member.values("role")[:1]),
            member_name=Subquery(User.objects.filter(pk=user_id).values("username")[:1]),
        )
        found = rows.values_list("auth_version", "member_role", "member_name", "plan", "limits").first()
        if found is None or found[1] is None:
            return None
        version, role, name, plan, limits = found
        quotas.remember(tenant_id, plan, limits)  # the request will ask for them next
        return Standing(Role(role), name, version)
    row = rows.values_list("auth_version", "plan", "limits").first()
    if row is None:
        return None
    quotas.remember(tenant_id, row[1], row[2])
    return Standing(None, "", row[0])


_unknown: list[str] = []


def _unknown_hash() -> str:
    if not _unknown:
        _unknown.append(hash_secret("no key has this secret"))
    return _unknown[0]
