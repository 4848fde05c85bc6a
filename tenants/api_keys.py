"""Verbs about API keys: making, ending and replacing them. Whom a key acts for is settled elsewhere."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from itertools import chain, count
from typing import Any
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.utils import timezone

from tenants import audit
from tenants.access import SHAREABLE, Actor, Permission, Principal, Role, permissions_of
from tenants.errors import BeyondOwnRightsError, KeyNameTakenError, KeyNotFoundError, KeyNotUsableError
from tenants.keys import hash_secret, make_key
from tenants.models import ApiKey, Tenant

#: How long a replaced key goes on working unless the request says so, and at most. Seconds.
DEFAULT_GRACE = 86_400
MAX_GRACE = 30 * 86_400


def keys_of(tenant_id: UUID) -> models.QuerySet[ApiKey]:
    """All keys of a tenant with who made them."""
    return ApiKey.objects.for_tenant(tenant_id).select_related("created_by")


def find_key(*, tenant_id: UUID, key_id: UUID) -> ApiKey:
    """One key; ``KeyNotFoundError``."""
    key = keys_of(tenant_id).filter(pk=key_id).first()
    if key is None:
        raise KeyNotFoundError(f"There is no API key {key_id}.")
    return key


def issue_key(
    *,
    by: Actor,
    principal: Principal,
    name: str,
    role: Role,
    scopes: Collection[Permission] | None,
    expires_at: datetime | None,
    env: str = "live",
) -> tuple[ApiKey, str]:
    """A new key of the principal's member and its text, which is not kept anywhere: show it now.

    ``scopes`` narrow the role; ``None`` does not. Raises ``BeyondOwnRightsError`` if it could do what the principal
    cannot, or would outlive the key that makes it; ``KeyNameTakenError``.
    """
    _require_coverage(principal, role, scopes)
    _require_no_longer_life(principal, expires_at, "Give `expires_at`, not later than that")
    return _store(
        by,
        env,
        "api_key.created",
        name=name,
        role=role.value,
        scopes=None if scopes is None else sorted(scopes),
        created_by_id=principal.user_id,
        expires_at=expires_at,
    )


@transaction.atomic
def revoke_key(*, by: Actor, key_id: UUID) -> None:
    """End a key now. Raises ``KeyNotFoundError``; a key that was revoked before stays so."""
    key = _locked(by.tenant_id, key_id)
    if key.revoked_at is not None:
        return
    key.revoke()
    audit.record(by=by, action="api_key.revoked", target=f"api_key:{key.pk}", before=_shown(key))


@transaction.atomic
def rotate_key(*, by: Actor, principal: Principal, key_id: UUID, grace: int = DEFAULT_GRACE) -> tuple[ApiKey, str]:
    """A key that replaces another one, and its text; the old one works for ``grace`` more seconds.

    The new one has the old one's name, rights and, from now, its time to live; but one that a key makes ends no later
    than that key, so that no key prolongs itself. Raises ``KeyNotFoundError``, ``KeyNotUsableError``, and
    ``BeyondOwnRightsError`` if the old one can do what the principal cannot or lives longer: the new text would be
    theirs.
    """
    old = _locked(by.tenant_id, key_id)
    if not old.usable or old.replaced_by_id is not None:
        raise KeyNotUsableError("The key is revoked, expired or replaced. Rotate the one that replaces it.")
    scopes = None if old.scopes is None else [Permission(scope) for scope in old.scopes]
    _require_coverage(principal, Role(old.role), scopes)
    _require_no_longer_life(principal, old.expires_at, "Rotate it as a member, or with a key that lives as long")
    ends = [] if old.expires_at is None else [timezone.now() + (old.expires_at - old.created_at)]
    ends += [] if principal.expires_at is None else [principal.expires_at]
    old.give_name_up()
    new, text = _store(
        by,
        "live",
        "api_key.rotated",
        replaces=old,
        name=old.name,
        role=old.role,
        scopes=old.scopes,
        created_by_id=old.created_by_id,
        expires_at=min(ends, default=None),
    )
    old.replace(new, grace=timedelta(seconds=grace))
    return new, text


@transaction.atomic
def create_api_key(*, tenant: Tenant, name: str, env: str = "live", role: Role = Role.OWNER) -> tuple[ApiKey, str]:
    """A new key of the installation itself and its text, which is not kept anywhere: show it now.

    Raises ``KeyNameTakenError``.
    """
    return _store(Actor.system(tenant.pk, "operator"), env, "api_key.created", name=name, role=role.value)


def free_name(tenant: Tenant, name: str) -> str:
    """The name, or with the first number that makes it one that no key of the tenant has."""
    taken = set(ApiKey.objects.for_tenant(tenant).values_list("known_as", flat=True))
    numbered = (f"{name} {number}" for number in count(2))
    return next(each for each in chain([name], numbered) if _known_as(each) not in taken)


def _known_as(name: str) -> str:
    return name.casefold()


def _store(by: Actor, env: str, action: str, *, replaces: ApiKey | None = None, **values: Any) -> tuple[ApiKey, str]:
    made = make_key(env)
    hashed = hash_secret(made.secret)
    key = ApiKey(
        tenant_id=by.tenant_id,
        known_as=_known_as(values["name"]),
        key_id=made.key_id,
        secret_hash=hashed,
        last4=made.text[-4:],
        **values,
    )
    try:
        with transaction.atomic():
            key.save(force_insert=True)
            before = None if replaces is None else {"id": str(replaces.pk)}
            audit.record(by=by, action=action, target=f"api_key:{key.pk}", before=before, after=_shown(key))
    except IntegrityError:
        if not ApiKey.objects.for_tenant(by.tenant_id).filter(known_as=key.known_as).exists():
            raise
        message = "Another API key of this tenant has that name. Choose another one, or revoke that key before."
        raise KeyNameTakenError(message) from None
    return key, made.text


def _locked(tenant_id: UUID, key_id: UUID) -> ApiKey:
    key = ApiKey.objects.for_tenant(tenant_id).select_for_update(of=("self",), no_key=True).filter(pk=key_id).first()
    if key is None:
        raise KeyNotFoundError(f"There is no API key {key_id}.")
    return key


def _require_coverage(principal: Principal, role: Role, scopes: Collection[Permission] | None) -> None:
    if role.rank > principal.role.rank:
        raise BeyondOwnRightsError(
            f"An API key cannot have a higher role than its creator: you are `{principal.role}`."
        )
    if scopes is None:
        # Objects may be shared with the key's role or member at any time, and no scope of the new key would shut
        # that out.
        shareable = SHAREABLE - principal.narrowed(SHAREABLE)
        missing = sorted({*principal.lacking(permissions_of(role)), *shareable})
    else:
        beyond_role = sorted(set(scopes) - permissions_of(role))
        if beyond_role:
            raise BeyondOwnRightsError(f"The role `{role}` does not have: {_listed(beyond_role)}.")
        missing = principal.lacking(scopes)
    if missing:
        raise BeyondOwnRightsError(
            f"An API key cannot have more permissions than its creator: you lack {_listed(missing)}. Choose a lower "
            "`role`, or `scopes` among your own."
        )


def _require_no_longer_life(principal: Principal, expires_at: datetime | None, remedy: str) -> None:
    end = principal.expires_at
    if end is not None and (expires_at is None or expires_at > end):
        raise BeyondOwnRightsError(
            f"A key cannot expire later than the key that creates it, which expires at {end.isoformat()}. {remedy}."
        )


def _listed(permissions: Collection[Permission]) -> str:
    return ", ".join(f"`{permission}`" for permission in permissions)


def _shown(key: ApiKey) -> dict[str, Any]:
    expires_at = None if key.expires_at is None else key.expires_at.isoformat()
    return {"name": key.name, "role": key.role, "scopes": key.scopes, "last4": key.last4, "expires_at": expires_at}
