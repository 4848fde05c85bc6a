"""Sharing one object with one member, or with everybody of one role, beyond what the role allows.

The rows are django-guardian's. A role of a tenant is one of its groups there, which has no users: who has a role is
what the memberships say.

Guardian's models are asked, not ``guardian.shortcuts``: those know a role only by its group, which takes a third query
in each request that a grant permits (here two), list the grants of an object with a query for each user (nine queries
for five members and a role, here three), and hold that superusers have every permission.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.contrib.auth.models import Permission as ModelPermission
from django.contrib.contenttypes.models import ContentType
from django.db import models, transaction
from guardian.models import GroupObjectPermission, UserObjectPermission

from tenants import audit
from tenants.access import LEVELS, Actor, Level, Permission, Principal, Role
from tenants.errors import BeyondOwnRightsError, GrantNotFoundError, MemberNotFoundError
from tenants.models import Membership
from tenants.scoping import TenantOwned

_VERBS = {Level.READ: "view", Level.RUN: "run", Level.WRITE: "change"}


@dataclass(frozen=True, slots=True)
class Grant:
    """A grant on an object to a ``member`` or a ``role``, with its level. ``id`` is unique within the object."""

    kind: str
    grantee: str
    name: str
    level: Level

    @property
    def id(self) -> str:
        """``member:<id>`` or ``role:<role>``."""
        return f"{self.kind}:{self.grantee}"


def permissions_on(principal: Principal, obj: TenantOwned) -> frozenset[Permission]:
    """Return the permissions granted to a principal on an object, within the scopes of their key."""
    verbs = {codename.split("_")[0] for rows in _rows(principal, obj) for codename in rows}
    levels = (level for level, verb in _VERBS.items() if verb in verbs)
    return principal.narrowed(reduce(or_, (LEVELS[level] for level in levels), frozenset()))


def shared_with(principal: Principal, model: type[TenantOwned], permission: Permission) -> set[UUID]:
    """The ids of the objects of a model that were shared with who asks so that they have the permission."""
    if not principal.in_scope(permission):
        return set()
    verbs = [verb for level, verb in _VERBS.items() if permission in LEVELS[level]]
    names = [f"{verb}_{model._meta.model_name}" for verb in verbs]
    about = {"content_type": ContentType.objects.get_for_model(model), "permission__codename__in": names}
    role = _group_name(principal.tenant_id, principal.role)
    found = set(GroupObjectPermission.objects.filter(group__name=role, **about).values_list("object_pk", flat=True))
    if principal.user_id is not None:
        mine = UserObjectPermission.objects.filter(user_id=principal.user_id, **about)
        found |= set(mine.values_list("object_pk", flat=True))
    # What another tenant shared with the same user is none of this one's.
    return set(model.objects.for_tenant(principal.tenant_id).filter(pk__in=found).values_list("pk", flat=True))


def shared_with_role(*, tenant_id: UUID, role: Role) -> frozenset[Permission]:
    """Return the permissions that a role has on some object of the tenant through grants to the role."""
    rows = GroupObjectPermission.objects.filter(group__name=_group_name(tenant_id, role))
    levels = {_level(codename) for codename in rows.values_list("permission__codename", flat=True).distinct()}
    return reduce(or_, (LEVELS[level] for level in levels), frozenset())


def _rows(principal: Principal, obj: TenantOwned) -> Iterator[models.QuerySet[Any, str]]:
    about = {"content_type": ContentType.objects.get_for_model(obj), "object_pk": str(obj.pk)}
    role = _group_name(obj.tenant_id, principal.role)
    yield GroupObjectPermission.objects.filter(group__name=role, **about).values_list("permission__codename", flat=True)
    if principal.user_id is not None:
        mine = UserObjectPermission.objects.filter(user_id=principal.user_id, **about)
        yield mine.values_list("permission__codename", flat=True)


def grants_of(obj: TenantOwned) -> list[Grant]:
    """With whom an object is shared: roles, then the present members of its tenant, by name."""
    about = {"content_type": ContentType.objects.get_for_model(obj), "object_pk": str(obj.pk)}
    roles = dict(GroupObjectPermission.objects.filter(**about).values_list("group__name", "permission__codename"))
    users = dict(UserObjectPermission.objects.filter(**about).values_list("user_id", "permission__codename"))
    found = [
        Grant("role", role.value, role.value, _level(roles[name]))
        for role in Role
        if (name := _group_name(obj.tenant_id, role)) in roles
    ]
    members = Membership.objects.for_tenant(obj.tenant_id).filter(user__in=users).select_related("user")
    return found + [
        Grant("member", str(member.pk), member.user.get_username(), _level(users[member.user_id]))
        for member in members.order_by("user__username")
    ]


@transaction.atomic
def share(
    *, by: Actor, principal: Principal | None, obj: TenantOwned, target: str, level: Level, kind: str, grantee: str
) -> Grant:
    """Share an object at a level, instead of the level at which it was shared with them before.

    ``target`` is its name in the audit, ``principal`` is ``None`` for the operator. Raises ``BeyondOwnRightsError`` if
    the principal lacks a permission that the level includes, and ``MemberNotFoundError``.
    """
    missing = [] if principal is None else principal.lacking(LEVELS[level])
    if missing:
        raise BeyondOwnRightsError(
            f"The level `{level}` includes more than you may do yourself; you lack: "
            + ", ".join(f"`{permission}`" for permission in missing)
            + ". Choose a lesser `level`, or use a credential that has them."
        )
    rows, who, name = _grantee(obj, kind, grantee)
    before = [_level(row.permission.codename) for row in _of(rows, obj, who)]
    grant = Grant(kind, grantee, name, level)
    if before != [level]:
        _of(rows, obj, who).delete()
        about = {"content_type": ContentType.objects.get_for_model(obj), "object_pk": str(obj.pk)}
        rows.objects.create(permission=_permission(obj, level), **about, **who)
        was = {"grant": grant.id, "level": before[0].value} if before else None
        audit.record(
            by=by, action="grant.set", target=target, before=was, after={"grant": grant.id, "level": level.value}
        )
    return grant


@transaction.atomic
def unshare(*, by: Actor, obj: TenantOwned, target: str, grant_id: str) -> None:
    """Share an object no more with whom a grant names. Raises ``GrantNotFoundError``."""
    kind, _, grantee = grant_id.partition(":")
    try:
        rows, who, _ = _grantee(obj, kind, grantee)
        gone = _of(rows, obj, who).delete()[0]
    except MemberNotFoundError:
        gone = 0
    if not gone:
        raise GrantNotFoundError(f"There is no grant {grant_id!r}.")
    audit.record(by=by, action="grant.removed", target=target, before={"grant": grant_id})


def forget_member(*, tenant_id: UUID, user_id: int) -> int:
    """Take from a user what was shared with them of a tenant's objects; how many grants that were."""
    gone = 0
    mine = UserObjectPermission.objects.filter(user_id=user_id)
    for kind in ContentType.objects.filter(pk__in=mine.values("content_type")):
        model = kind.model_class()
        if model is not None and issubclass(model, TenantOwned):
            rows = mine.filter(content_type=kind)
            shared = [row for row in rows.values_list("object_pk", flat=True) if _is_uuid(row)]
            here = model.objects.for_tenant(tenant_id).filter(pk__in=shared).values_list("pk", flat=True)
            gone += rows.filter(object_pk__in=[str(pk) for pk in here]).delete()[0]
    return gone


def _grantee(obj: TenantOwned, kind: str, grantee: str) -> tuple[Any, dict[str, Any], str]:
    """Guardian's model, what says whom in it, and their name."""
    if kind == "role" and grantee in set(Role):
        group, _ = Group.objects.get_or_create(name=_group_name(obj.tenant_id, Role(grantee)))
        return GroupObjectPermission, {"group": group}, grantee
    members = Membership.objects.for_tenant(obj.tenant_id).select_related("user")
    member = members.filter(pk=grantee).first() if kind == "member" and _is_uuid(grantee) else None
    if member is None:
        raise MemberNotFoundError(f"There is no member {grantee}.")
    return UserObjectPermission, {"user": member.user}, member.user.get_username()


def _of(rows: Any, obj: TenantOwned, who: dict[str, Any]) -> models.QuerySet[Any]:
    about = {"content_type": ContentType.objects.get_for_model(obj), "object_pk": str(obj.pk)}
    found: models.QuerySet[Any] = rows.objects.filter(**about, **who).select_related("permission")
    return found


def _group_name(tenant_id: UUID, role: Role) -> str:
    return f"{tenant_id}:{role}"


def _permission(obj: TenantOwned, level: Level) -> ModelPermission:
    kind = ContentType.objects.get_for_model(obj)
    codename = f"{_VERBS[level]}_{kind.model}"
    name = f"Can {_VERBS[level]} {kind.model}"
    return ModelPermission.objects.get_or_create(content_type=kind, codename=codename, defaults={"name": name})[0]


def _is_uuid(text: str) -> bool:
    try:
        return bool(UUID(text))
    except ValueError:
        return False


def _level(codename: str) -> Level:
    verb = codename.split("_", maxsplit=1)[0]
    return next(level for level, its_verb in _VERBS.items() if its_verb == verb)
