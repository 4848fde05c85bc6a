"""Logging in, staying logged in, and logging out.

A login begins a family of refresh tokens. Each is traded once for the next one and an access token; one that is shown
twice has been stolen from somebody, so it ends the family and every access token that came from it.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from uuid import UUID

from django.contrib.auth import authenticate
from django.utils import timezone

from plumbing.database.transactions import retried
from pyflow.core.ids import new_uuid
from tenants import audit, failures, tokens
from tenants.access import Actor
from tenants.authentication import standing_of
from tenants.errors import InvalidTokenError, LoginError
from tenants.models import RefreshToken, Tenant, access_changed
from tenants.scoping import lookup_scope, tenant_scope

REFUSED_LOGIN = "User name, password or tenant is not right."
REFUSED_REFRESH = "The refresh token is not valid. Log in again."


@dataclass(frozen=True, slots=True)
class Pair:
    """An access token and the refresh token that follows it."""

    access: str
    refresh: str


@retried
def log_in(*, username: str, password: str, tenant: str, address: str, request_id: str = "") -> Pair:
    """A new session of a member of the tenant with this slug.

    Raises ``LoginError``, in the same words whatever is wrong, ``TooManyFailuresError`` or ``TokensDisabledError``.
    """
    tokens.keyring()
    subjects = (f"user:{username}", f"address:{address}")
    with failures.attempt(*subjects):
        # An unknown user costs as much as a wrong password.
        user = authenticate(username=username, password=password)
        with lookup_scope(tenant):
            tenant_id = Tenant.objects.filter(slug=tenant).values_list("pk", flat=True).first()
        if user is not None and tenant_id is not None:
            with tenant_scope(tenant_id, write=True):
                standing = standing_of(tenant_id, user.pk)
                if standing is not None:
                    actor = Actor(tenant_id, "user", str(user.pk), standing.name, request_id, address)
                    pair, row = _next(tenant_id, user.pk, new_uuid())
                    audit.record(by=actor, action="session.started", target=f"session:{row.family}")
                    return pair
        raise LoginError(REFUSED_LOGIN)


@retried
def refresh(*, token: str, address: str, request_id: str = "") -> Pair:
    """The next pair of a session. Raises ``InvalidTokenError``; a token that was used before ends its session."""
    with failures.attempt(f"address:{address}"):
        shown = _shown(token)
        if shown is not None:
            with tenant_scope(shown.tenant_id, write=True):
                row = RefreshToken.objects.for_tenant(shown.tenant_id).select_for_update(no_key=True).get(pk=shown.pk)
                standing = standing_of(row.tenant_id, row.user_id)
                if standing is not None and row.usable:
                    row.used_at = timezone.now()
                    row.save(update_fields=["used_at"])
                    return _next(row.tenant_id, row.user_id, row.family)[0]
                if row.used_at is not None and row.revoked_at is None:
                    name = "" if standing is None else standing.name
                    actor = Actor(row.tenant_id, "user", str(row.user_id), name, request_id, address)
                    _end(row, actor, "a refresh token was shown twice")
        raise InvalidTokenError(REFUSED_REFRESH)


@retried
def log_out(*, token: str, address: str, request_id: str = "") -> None:
    """End the session of a refresh token. One that is not known, or has ended, is as good as ended (RFC 7009, 2.2)."""
    shown = _shown(token)
    if shown is None:
        return
    with tenant_scope(shown.tenant_id, write=True):
        row = RefreshToken.objects.for_tenant(shown.tenant_id).select_for_update(no_key=True).get(pk=shown.pk)
        if row.revoked_at is None:
            actor = Actor(row.tenant_id, "user", str(row.user_id), row.user.get_username(), request_id, address)
            _end(row, actor, "logged out")


def _shown(token: str) -> RefreshToken | None:
    hashed = _hash(token)
    with lookup_scope(hashed):
        return RefreshToken.objects.presented(hashed)


def _next(tenant_id: UUID, user_id: int, family: UUID) -> tuple[Pair, RefreshToken]:
    text = secrets.token_urlsafe(32)
    row: RefreshToken = RefreshToken.objects.create(
        tenant_id=tenant_id,
        user_id=user_id,
        family=family,
        token_hash=_hash(text),
        expires_at=timezone.now() + timedelta(seconds=tokens.REFRESH_SECONDS),
    )
    return Pair(tokens.issue(user_id=user_id, tenant_id=tenant_id, family=family), text), row


def _end(row: RefreshToken, actor: Actor, why: str) -> None:
    family = RefreshToken.objects.for_tenant(row.tenant_id).filter(family=row.family, revoked_at__isnull=True)
    family.update(revoked_at=timezone.now())
    access_changed(row.tenant_id)
    audit.record(by=actor, action="session.ended", target=f"session:{row.family}", after={"reason": why})


def _hash(token: str) -> str:
    """Tokens have 256 random bits: nothing slower than SHA-256 is needed to keep them."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
