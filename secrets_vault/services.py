"""Verbs about secrets. Values go in and, but for nodes that run, never come out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from pyflow.core.messages import show
from pyflow.core.redaction import MASK
from secrets_vault.errors import (
    SecretExistsError,
    SecretInvalidError,
    SecretMissingError,
    SecretVersionCurrentError,
    SecretVersionMissingError,
)
from secrets_vault.models import DataKey, Secret, SecretVersion, is_name
from secrets_vault.providers import EnvironmentProvider
from tenants.access import Actor
from tenants.audit import record
from tenants.models import Tenant


@transaction.atomic
def create_secret(*, name: str, value: str, description: str = "", by: Actor) -> Secret:
    """Store a new secret. Raises ``SecretExistsError``, ``SecretInvalidError`` or ``VaultNotConfiguredError``."""
    if not is_name(name):
        raise SecretInvalidError("A secret's name is a capital letter, then capitals, digits and `_`: `API_KEY`.")
    secret = Secret(tenant_id=by.tenant_id, name=name, description=description)
    try:
        with transaction.atomic():
            secret.save(force_insert=True)
    except IntegrityError:
        raise SecretExistsError(f"There is a secret {name}. PUT to its address to replace the value.") from None
    _add_version(secret, value)
    record(by=by, action="secret.created", target=_target(secret), after=_shown(secret))
    return secret


@transaction.atomic
def replace_secret(*, secret: Secret, value: str, description: str | None = None, by: Actor) -> Secret:
    """Give a locked secret a new value; nodes that ask from now on get it. Earlier versions are kept, encrypted."""
    return _replace(secret, value, description, by, "secret.replaced")


@transaction.atomic
def rotate_secret(*, secret: Secret, value: str, by: Actor) -> Secret:
    """Give a locked secret a new value and destroy all earlier ones: for a value that is worth nothing any more."""
    secret = _replace(secret, value, None, by, "secret.rotated")
    SecretVersion.destroy(_versions(secret).exclude(number=secret.version))
    return secret


def _replace(secret: Secret, value: str, description: str | None, by: Actor, action: str) -> Secret:
    before = _shown(secret)
    secret.version += 1
    secret.description = secret.description if description is None else description
    secret.updated_at = timezone.now()
    secret.save(update_fields=["version", "description", "updated_at"])
    _add_version(secret, value)
    record(by=by, action=action, target=_target(secret), before=before, after=_shown(secret))
    return secret


@transaction.atomic
def delete_secret(*, secret: Secret, by: Actor) -> None:
    """Delete a locked secret with all its versions."""
    record(by=by, action="secret.deleted", target=_target(secret), before=_shown(secret))
    secret.delete()


@transaction.atomic
def destroy_version(*, secret: Secret, number: int, by: Actor) -> None:
    """Destroy one earlier value of a locked secret; once or often.

    Raises ``SecretVersionMissingError`` or ``SecretVersionCurrentError``.
    """
    if number == secret.version:
        raise SecretVersionCurrentError(f"Version {number} is the current one. Replace the value first.")
    version = _versions(secret).filter(number=number).first()
    if version is None:
        raise SecretVersionMissingError(f"{secret.name} has no version {number}.")
    if version.destroyed_at is None:
        SecretVersion.destroy(_versions(secret).filter(number=number))
        change = {"name": secret.name, "version": number}
        record(by=by, action="secret_version.destroyed", target=_target(secret), before=change)


def find_secret(*, tenant_id: UUID, name: str, lock: bool = False) -> Secret:
    """A tenant's secret, without its value; ``lock`` keeps others from changing it in this transaction.

    Raises ``SecretMissingError``.
    """
    rows = Secret.objects.for_tenant(tenant_id)
    # A name that cannot be is not looked up: an address may hold what PostgreSQL refuses to be asked for.
    secret = (
        (rows.select_for_update(no_key=True) if lock else rows).filter(name=name).first() if is_name(name) else None
    )
    if secret is None:
        raise SecretMissingError(f"There is no secret {show(name, 200)}.")
    return secret


def missing_secrets(*, tenant_id: UUID, names: Iterable[str]) -> list[str]:
    """Return the names that no provider has now, sorted. ``*``, a name that is computed, is never missing.

    The environment is that of this process, which may have other variables than the workers'.
    """
    missing = set(names) - {"*"}
    if "vault" in settings.PYFLOW_SECRET_PROVIDERS and missing:
        missing -= set(Secret.objects.for_tenant(tenant_id).filter(name__in=missing).values_list("name", flat=True))
    if "environment" in settings.PYFLOW_SECRET_PROVIDERS and missing:
        provider = EnvironmentProvider(Tenant.objects.values_list("slug", flat=True).get(pk=tenant_id))
        missing -= {name for name in missing if provider.has(name)}
    return sorted(missing)


def _add_version(secret: Secret, value: str) -> None:
    version = SecretVersion(tenant_id=secret.tenant_id, secret=secret, number=secret.version)
    version.seal(value, data_key_of(secret.tenant_id))
    version.save(force_insert=True)


def data_key_of(tenant_id: UUID) -> DataKey:
    """The newest data key of a tenant, made if there is none. Locked: a rotation must not remove it meanwhile.

    Raises ``VaultNotConfiguredError``.
    """
    keys = DataKey.objects.for_tenant(tenant_id).select_for_update(no_key=True).order_by("-version")
    key = keys.first()
    if key is None:
        try:
            with transaction.atomic():
                key = DataKey.make(tenant_id=tenant_id, version=1)
                key.save(force_insert=True)
        except IntegrityError:  # another request of this tenant was quicker
            key = keys[0]
    return key


def _versions(secret: Secret) -> Any:
    return SecretVersion.objects.for_tenant(secret.tenant_id).filter(secret=secret)


def _target(secret: Secret) -> str:
    return f"secret:{secret.name}"


def _shown(secret: Secret) -> dict[str, Any]:
    return {"name": secret.name, "description": secret.description, "version": secret.version, "value": MASK}
