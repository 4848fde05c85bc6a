"""Accounts and groups of staff, which belong to no tenant, in the audits of the tenants that they reach."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet

from tenants import audit
from tenants.access import Actor
from tenants.models import Membership, Tenant


@transaction.atomic
def record_account(
    *, acting: Callable[[UUID], Actor], account: User | Group, verb: str, fields: Collection[str]
) -> None:
    """Record that an account or a group was created or changed, in the audit of each tenant that it reaches.

    A superuser, and an account that ceases to be one, reaches all; others reach those that they are members of. An
    account without a membership reaches none: its first membership is an entry of its own. ``acting`` gives the actor
    in a tenant, ``fields`` names what was changed.
    """
    kind = "account" if isinstance(account, User) else "staff_group"
    after = _shown(account) | {"fields": sorted(fields)}
    for tenant_id in _reached(account).order_by("pk").values_list("pk", flat=True):
        audit.record(by=acting(tenant_id), action=f"{kind}.{verb}", target=f"{kind}:{account.pk}", after=after)


def _reached(account: User | Group) -> QuerySet[Tenant]:
    users = User.objects.filter(pk=account.pk) if isinstance(account, User) else User.objects.filter(groups=account)
    if getattr(account, "was_superuser", False) or users.filter(is_superuser=True).exists():
        return Tenant.objects.all()
    return Tenant.objects.filter(pk__in=Membership.objects.across_tenants().filter(user__in=users).values("tenant"))


def _shown(account: User | Group) -> dict[str, Any]:
    permissions = account.user_permissions if isinstance(account, User) else account.permissions
    shown: dict[str, Any] = {"permissions": sorted(permissions.values_list("codename", flat=True))}
    if isinstance(account, User):
        flags = ("username", "email", "is_active", "is_staff", "is_superuser")
        groups = sorted(account.groups.values_list("name", flat=True))
        return {name: getattr(account, name) for name in flags} | {"groups": groups} | shown
    return {"name": account.name} | shown
