"""Verbs about members: who belongs to a tenant, and as what."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractUser
from django.db import models, transaction
from django.utils import timezone

from tenants import audit
from tenants.access import SHAREABLE, Actor, Permission, Principal, Role, permissions_of
from tenants.errors import BeyondOwnRightsError, LastOwnerError, MemberExistsError, MemberNotFoundError
from tenants.grants import forget_member, shared_with_role
from tenants.models import ApiKey, Membership, RefreshToken, access_changed


def members_of(tenant_id: UUID) -> models.QuerySet[Membership]:
    """The members of a tenant with their users."""
    return Membership.objects.for_tenant(tenant_id).select_related("user")


def find_member(*, tenant_id: UUID, member_id: UUID) -> Membership:
    """One member; ``MemberNotFoundError``."""
    member = members_of(tenant_id).filter(pk=member_id).first()
    if member is None:
        raise MemberNotFoundError(f"There is no member {member_id}.")
    return member


def lock_member(*, tenant_id: UUID, member_id: UUID) -> Membership:
    """One member, to be changed in this transaction; ``MemberNotFoundError``.

    The owners are locked first, in one order: whoever is about to take one away sees how many there are, and nobody
    waits for somebody who waits for them.
    """
    _lock_owners(tenant_id)
    member = members_of(tenant_id).select_for_update(of=("self",), no_key=True).filter(pk=member_id).first()
    if member is None:
        raise MemberNotFoundError(f"There is no member {member_id}.")
    return member


def add_member(*, by: Actor, user: AbstractUser, role: Role) -> Membership:
    """Make a user, who is none yet, a member. Callers see to it that they may.

    Raises ``MemberExistsError`` if a member has one of the user's names: approvals name members by them.
    """
    _require_own_names(by.tenant_id, user)
    member: Membership = Membership.objects.create(tenant_id=by.tenant_id, user=user, role=role.value)
    audit.record(by=by, action="member.added", target=f"member:{member.pk}", after=_shown(member))
    return member


def _require_own_names(tenant_id: UUID, user: AbstractUser) -> None:
    names = {name.casefold() for name in (user.get_username(), user.email) if name}
    for member in members_of(tenant_id).exclude(user_id=user.pk):
        if not names.isdisjoint(name.casefold() for name in (member.user.get_username(), member.user.email)):
            raise MemberExistsError(
                "Another member of this tenant has the same user name or e-mail address, whatever its case. Remove "
                "that member, or have an operator give one of the two accounts another name."
            )


@transaction.atomic
def account_changed(*, user_id: int) -> None:
    """Have a user's access looked at again, wherever they are a member: the account is active now, or no longer."""
    tenants = Membership.objects.across_tenants().filter(user=user_id).order_by("tenant_id")
    for tenant_id in tenants.values_list("tenant_id", flat=True):
        access_changed(tenant_id)


@transaction.atomic
def change_role(*, by: Actor, principal: Principal, member: Membership, role: Role) -> Membership:
    """Give a member (from ``lock_member``) another role.

    Raises ``BeyondOwnRightsError`` if the member has, or would get, more than the principal; ``LastOwnerError``.
    """
    require_coverage(principal, Role(member.role))
    require_coverage(principal, role)
    if member.role == role.value:
        return member
    if member.role == Role.OWNER.value:
        _require_another_owner(member)
    before = _shown(member)
    member.role, member.updated_at = role.value, timezone.now()
    member.save(update_fields=["role", "updated_at"])
    audit.record(by=by, action="member.role_changed", target=f"member:{member.pk}", before=before, after=_shown(member))
    return member


@transaction.atomic
def remove_member(*, by: Actor, principal: Principal, member: Membership) -> None:
    """End a membership (from ``lock_member``), and with it the member's keys, tokens and grants in this tenant.

    Raises ``BeyondOwnRightsError`` if the member has more than the principal; ``LastOwnerError``.
    """
    require_coverage(principal, Role(member.role))
    _end(by, member, "member.removed")


@transaction.atomic
def leave_tenant(*, by: Actor, user_id: int) -> None:
    """End one's own membership, as ``remove_member``. Raises ``MemberNotFoundError``, ``LastOwnerError``."""
    member_id = Membership.objects.for_tenant(by.tenant_id).filter(user=user_id).values_list("pk", flat=True).first()
    if member_id is None:
        raise MemberNotFoundError("You are not a member of this tenant.")
    _end(by, lock_member(tenant_id=by.tenant_id, member_id=member_id), "member.left")


def require_coverage(principal: Principal | None, role: Role) -> None:
    """Raise ``BeyondOwnRightsError`` unless the principal has all that the role has. ``None``: the operator.

    What is shared with the role counts as well: a new holder of the role has it, too.
    """
    if principal is None:
        return
    beyond: list[Permission] = principal.lacking(permissions_of(role))
    if not beyond and principal.lacking(SHAREABLE):
        beyond = principal.lacking(shared_with_role(tenant_id=principal.tenant_id, role=role))
    if beyond:
        raise BeyondOwnRightsError(
            f"`{role}` may do more than you: your role is `{principal.role}`"
            + ("." if principal.scopes is None else ", narrowed by the scopes of this key.")
        )


def _end(by: Actor, member: Membership, action: str) -> None:
    if member.role == Role.OWNER.value:
        _require_another_owner(member)
    now = timezone.now()
    keys = ApiKey.objects.for_tenant(by.tenant_id).filter(created_by=member.user_id, revoked_at__isnull=True)
    tokens = RefreshToken.objects.for_tenant(by.tenant_id).filter(user=member.user_id, revoked_at__isnull=True)
    ended = {
        "keys_revoked": keys.update(revoked_at=now, known_as=None),
        "grants_removed": forget_member(tenant_id=by.tenant_id, user_id=member.user_id),
    }
    tokens.update(revoked_at=now)
    before, target = _shown(member), f"member:{member.pk}"
    member.delete()
    audit.record(by=by, action=action, target=target, before=before, after=ended)


def _lock_owners(tenant_id: UUID) -> None:
    owners = Membership.objects.for_tenant(tenant_id).filter(role=Role.OWNER.value)
    list(owners.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))


def _require_another_owner(member: Membership) -> None:
    others = Membership.objects.for_tenant(member.tenant_id).filter(role=Role.OWNER.value).exclude(pk=member.pk)
    if not others.exists():
        raise LastOwnerError("This is the last owner of the tenant. Make another member an owner first.")


def _shown(member: Membership) -> dict[str, Any]:
    return {"user": member.user_id, "username": member.user.get_username(), "role": member.role}
