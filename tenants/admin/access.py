"""Access rules of the admin: the rows that a user sees, and the actor recorded for a change.

A superuser is the operator: every tenant, with what an owner may. Other staff see the tenants that they are members of,
as far as their role there allows, and the screens that Django's own permissions give them: both are asked.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from plumbing.rest.client_address import address_of
from tenants.access import LEAST_ROLE, Actor, Permission, Principal, Role
from tenants.models import Membership


def is_operator(request: HttpRequest) -> bool:
    """Return whether the user is a superuser, who is not limited to any tenant."""
    return bool(request.user.is_active and request.user.is_superuser)


def roles_of(request: HttpRequest) -> Mapping[UUID, Role]:
    """The role that a member of staff has in each of their tenants that is not suspended; read once a request."""
    known: dict[UUID, Role] | None = getattr(request, "_tenant_roles", None)
    if known is None:
        rows = Membership.objects.across_tenants().filter(user=request.user.pk, tenant__suspended_at__isnull=True)
        known = {tenant_id: Role(role) for tenant_id, role in rows.values_list("tenant_id", "role")}
        request._tenant_roles = known  # type: ignore[attr-defined]
    return known


def tenants_with(request: HttpRequest, permission: Permission) -> Collection[UUID] | None:
    """The tenants in which they have a permission; ``None`` for all of them."""
    if is_operator(request):
        return None
    least = LEAST_ROLE[permission].rank
    return [tenant_id for tenant_id, role in roles_of(request).items() if role.rank >= least]


def may(request: HttpRequest, permission: Permission, tenant_id: UUID | None = None) -> bool:
    """Return whether the user has a permission in a tenant; without one, in any tenant."""
    allowed = tenants_with(request, permission)
    if allowed is None:
        return True
    return bool(allowed) if tenant_id is None else tenant_id in allowed


def acting(request: HttpRequest, tenant_id: UUID) -> Actor:
    """Them in the audit of a tenant."""
    user: Any = request.user
    request_id = getattr(request, "request_id", "")
    return Actor(tenant_id, "user", str(user.pk), user.get_username(), request_id, address_of(request))


def principal_of(request: HttpRequest, tenant_id: UUID) -> Principal:
    """Them in a tenant. The operator is an owner of it who is no member: what they make is the installation's."""
    user: Any = request.user
    role = Role.OWNER if is_operator(request) else roles_of(request)[tenant_id]
    user_id = None if is_operator(request) else user.pk
    return Principal(tenant_id, "user", str(user.pk), user.get_username(), role, user_id=user_id)
