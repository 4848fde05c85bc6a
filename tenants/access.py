"""Roles, permissions, and the one table that maps roles to permissions.

A permission is also a scope: what a key of the API may be narrowed to. Scopes do not imply one another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Literal
from uuid import UUID


class Role(StrEnum):
    """Roles of members; each has all permissions of the ones before it."""

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"
    OWNER = "owner"

    @property
    def rank(self) -> int:
        """0 for the least."""
        return list(Role).index(self)


class Permission(StrEnum):
    """One thing that may be allowed; the scopes of a key have the same names."""

    WORKFLOWS_READ = "workflows:read"
    WORKFLOWS_WRITE = "workflows:write"
    WORKFLOWS_SHARE = "workflows:share"
    RUNS_READ = "runs:read"
    RUNS_WRITE = "runs:write"
    SECRETS_READ = "secrets:read"
    SECRETS_WRITE = "secrets:write"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    KEYS_READ = "keys:read"
    KEYS_WRITE = "keys:write"
    TENANT_READ = "tenant:read"
    TENANT_WRITE = "tenant:write"
    AUDIT_READ = "audit:read"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"


#: The least role that has a permission: the whole matrix.
LEAST_ROLE: Mapping[Permission, Role] = {
    Permission.WORKFLOWS_READ: Role.VIEWER,
    Permission.RUNS_READ: Role.VIEWER,
    Permission.TENANT_READ: Role.VIEWER,
    Permission.MEMBERS_READ: Role.VIEWER,
    Permission.WORKFLOWS_WRITE: Role.EDITOR,
    Permission.RUNS_WRITE: Role.EDITOR,
    Permission.SECRETS_READ: Role.EDITOR,
    Permission.WEBHOOKS_READ: Role.EDITOR,
    Permission.WORKFLOWS_SHARE: Role.ADMIN,
    Permission.SECRETS_WRITE: Role.ADMIN,
    Permission.MEMBERS_WRITE: Role.ADMIN,
    Permission.KEYS_READ: Role.ADMIN,
    Permission.KEYS_WRITE: Role.ADMIN,
    Permission.AUDIT_READ: Role.ADMIN,
    Permission.WEBHOOKS_WRITE: Role.ADMIN,
    Permission.TENANT_WRITE: Role.OWNER,
}


class Level(StrEnum):
    """For what an object is shared; each includes the ones before it."""

    READ = "read"
    RUN = "run"
    WRITE = "write"


#: What a level allows with the object that is shared.
LEVELS: Mapping[Level, frozenset[Permission]] = {
    Level.READ: frozenset({Permission.WORKFLOWS_READ, Permission.RUNS_READ}),
    Level.RUN: frozenset({Permission.WORKFLOWS_READ, Permission.RUNS_READ, Permission.RUNS_WRITE}),
    Level.WRITE: frozenset(
        {Permission.WORKFLOWS_READ, Permission.RUNS_READ, Permission.RUNS_WRITE, Permission.WORKFLOWS_WRITE}
    ),
}


def permissions_of(role: Role) -> frozenset[Permission]:
    """All that a role may do."""
    return frozenset(permission for permission, least in LEAST_ROLE.items() if role.rank >= least.rank)


#: What somebody may come to do with single objects beyond their role, because the objects are shared with them.
SHAREABLE: frozenset[Permission] = LEVELS[Level.WRITE]


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor of an audited action: a key, a user, or the system itself (``id`` is then what it ran)."""

    tenant_id: UUID
    kind: Literal["key", "user", "system"]
    id: str
    name: str
    request_id: str = ""
    address: str = ""

    @classmethod
    def system(cls, tenant_id: UUID, what: str) -> Actor:
        """A command or a background task."""
        return cls(tenant_id, "system", what, what)

    def as_dict(self) -> dict[str, str]:
        """``{kind, id, name, request_id}``: for rows that keep who made them."""
        return {"kind": self.kind, "id": self.id, "name": self.name, "request_id": self.request_id}


@dataclass(frozen=True, slots=True)
class Principal:
    """The authenticated caller of a request: a tenant, through one of its keys or one of its members.

    ``scopes`` narrow the role: ``None`` for a user's own token, which is not narrowed. ``user_id`` is the member behind
    a token, or the one who made the key; objects may be shared with that member. ``auth_version`` is the tenant's at
    the moment when all of this was so. ``expires_at``: when its key ends; ``None`` for one that does not, and for a
    member, who is there longer than the token. ``session`` is the login that a member's token comes from, and
    ``credential_ends_at`` is when the token or the key ends.
    """

    tenant_id: UUID
    kind: Literal["key", "user"]
    id: str
    name: str
    role: Role
    scopes: frozenset[Permission] | None = None
    user_id: int | None = None
    auth_version: int = 0
    expires_at: datetime | None = None
    session: UUID | None = None
    credential_ends_at: datetime | None = None

    @property
    def is_authenticated(self) -> bool:
        """DRF's question; a principal only exists once that is settled."""
        return True

    @property
    def permissions(self) -> frozenset[Permission]:
        """Permissions on every object of its tenant."""
        return self.narrowed(permissions_of(self.role))

    def may(self, permission: Permission) -> bool:
        """Return whether the role has the permission and the scopes allow it."""
        return self.role.rank >= LEAST_ROLE[permission].rank and self.in_scope(permission)

    def in_scope(self, permission: Permission) -> bool:
        """Return whether the scopes allow the permission, whatever the role is."""
        return self.scopes is None or permission in self.scopes

    def narrowed(self, permissions: Iterable[Permission]) -> frozenset[Permission]:
        """Return those of the permissions that the scopes allow."""
        return frozenset(permission for permission in permissions if self.in_scope(permission))

    def lacking(self, permissions: Iterable[Permission]) -> list[Permission]:
        """List those of the permissions that it does not have itself, and therefore must not grant."""
        return sorted(frozenset(permissions) - self.permissions)

    def acting(self, *, request_id: str = "", address: str = "") -> Actor:
        """Itself in the audit."""
        return Actor(self.tenant_id, self.kind, self.id, self.name, request_id, address)
