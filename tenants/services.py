"""Verbs about tenants and their keys."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from tenants import audit
from tenants.access import Actor
from tenants.errors import TenantExistsError, TenantInvalidError, TenantNotFoundError
from tenants.models import Tenant

#: The tenant of somebody who names none.
DEFAULT_SLUG = "default"


@transaction.atomic
def create_tenant(*, slug: str, name: str = "", by: Actor | None = None) -> Tenant:
    """A new tenant. ``by`` is an operator of any tenant; by default a command of theirs.

    Raises ``TenantExistsError`` if the slug is taken, ``TenantInvalidError``.
    """
    tenant = Tenant(slug=slug, name=name or slug, plan=settings.PYFLOW_DEFAULT_PLAN)
    try:
        tenant.clean_fields()
    except ValidationError as error:
        wrong = (f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items())
        raise TenantInvalidError("; ".join(wrong)) from None
    try:
        with transaction.atomic():
            tenant.save(force_insert=True)
    except IntegrityError:
        raise TenantExistsError(f"There is a tenant {slug!r} already.") from None
    by = _operator(tenant) if by is None else replace(by, tenant_id=tenant.pk)
    audit.record(by=by, action="tenant.created", target=f"tenant:{slug}", after={"slug": slug, "name": tenant.name})
    return tenant


def find_or_create(*, slug: str | None, create: bool) -> Tenant:
    """Find the tenant that an operator's command names, or make it where ``create`` says so.

    Without a slug it is ``DEFAULT_SLUG``, which is made for the first command. Raises ``TenantNotFoundError``: a
    misspelt slug must not become a tenant.
    """
    tenant = Tenant.objects.filter(slug=slug or DEFAULT_SLUG).first()
    if tenant is not None:
        return tenant
    if slug is None or create:
        return create_tenant(slug=slug or DEFAULT_SLUG)
    near = get_close_matches(slug, Tenant.objects.values_list("slug", flat=True), 1)
    hint = f" Do you mean {near[0]!r}?" if near else ""
    raise TenantNotFoundError(f"There is no tenant {slug!r}.{hint} To make it, add --create.")


@transaction.atomic
def rename_tenant(*, by: Actor, tenant: Tenant, name: str) -> Tenant:
    """Give a tenant (locked by the caller) another name. Its slug stays: it is in addresses."""
    if tenant.name == name:
        return tenant
    before = {"name": tenant.name}
    tenant.name, tenant.updated_at = name, timezone.now()
    tenant.save(update_fields=["name", "updated_at"])
    audit.record(by=by, action="tenant.renamed", target=f"tenant:{tenant.slug}", before=before, after={"name": name})
    return tenant


@transaction.atomic
def suspend_tenant(*, tenant: Tenant, by: Actor | None = None) -> None:
    """Refuse every credential of a tenant until it is resumed. Tenants are not deleted: their audit stays."""
    tenant.suspend()
    audit.record(by=by or _operator(tenant), action="tenant.suspended", target=f"tenant:{tenant.slug}")


@transaction.atomic
def resume_tenant(*, tenant: Tenant, by: Actor | None = None) -> None:
    """Take the credentials of a suspended tenant again."""
    tenant.resume()
    audit.record(by=by or _operator(tenant), action="tenant.resumed", target=f"tenant:{tenant.slug}")


def _operator(tenant: Tenant) -> Actor:
    return Actor.system(tenant.pk, "operator")
