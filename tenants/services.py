"""Verbs about tenants and their keys."""

from __future__ import annotations

from django.db import transaction

from tenants.access import Role
from tenants.keys import hash_secret, make_key
from tenants.models import ApiKey, Tenant


def create_tenant(*, slug: str, name: str = "") -> Tenant:
    """A new tenant; raises ``IntegrityError`` if the slug is taken."""
    return Tenant.objects.create(slug=slug, name=name or slug)


@transaction.atomic
def create_api_key(*, tenant: Tenant, name: str, env: str = "live", role: Role = Role.OWNER) -> tuple[ApiKey, str]:
    """A new key of the installation itself and its text, which is not kept anywhere: show it now."""
    made = make_key(env)
    key: ApiKey = ApiKey.objects.create(
        tenant=tenant,
        name=name,
        role=role.value,
        key_id=made.key_id,
        secret_hash=hash_secret(made.secret),
        last4=made.text[-4:],
    )
    return key, made.text
