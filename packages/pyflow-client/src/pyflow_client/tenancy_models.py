"""Models of tenants: members, keys, audit, secrets, grants, limits and sessions, like the models in ``models``."""

from __future__ import annotations

from datetime import date as Date  # noqa: N812 - a field is called `date`
from datetime import datetime
from typing import Any, Literal

from pydantic import Field

from pyflow_client.models import _Model

Level = Literal["read", "run", "write"]


class User(_Model):
    """An account, with the user name that it logs in with."""

    id: int
    username: str
    email: str


class Tenant(_Model):
    """A tenant; ``plan`` and the times are there when it was read itself."""

    id: str
    slug: str
    name: str
    plan: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Me(_Model):
    """Identity of a credential: ``kind`` is ``key`` or ``user``; ``scopes`` restrict the role unless ``None``."""

    kind: str
    id: str
    name: str
    role: str
    scopes: tuple[str, ...] | None = None
    permissions: tuple[str, ...]
    user: User | None = None
    tenant: Tenant


class Member(_Model):
    """A user's place in the tenant."""

    id: str
    user: User
    role: str
    created_at: datetime
    updated_at: datetime


class Invitation(_Model):
    """An offer of membership. ``state`` is ``open``, ``accepted``, ``revoked`` or ``expired``.

    ``token`` is there in the answer that made it, and nowhere else.
    """

    id: str
    email: str
    role: str
    state: str
    invited_by: User | None = None
    created_at: datetime
    expires_at: datetime
    token: str | None = None


class Accepted(_Model):
    """The result of an accepted invitation."""

    tenant: Tenant
    member: Member


class ApiKey(_Model):
    """An API key. ``key`` is its text, in the answer that made it and nowhere else."""

    id: str
    name: str
    prefix: str
    last4: str
    role: str
    scopes: tuple[str, ...] | None = None
    usable: bool
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    replaced_by: str | None = None
    key: str | None = None


class AuditEntry(_Model):
    """Something that was done in the tenant. ``actor`` has ``kind``, ``id`` and ``name``."""

    seq: int
    at: datetime
    actor: dict[str, str]
    action: str
    target: str
    request_id: str
    address: str
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    previous: str
    hash: str


class Secret(_Model):
    """A secret without its value, which is never shown. ``version`` is the number of the current one."""

    name: str
    description: str
    version: int
    created_at: datetime
    updated_at: datetime


class SecretVersion(_Model):
    """A value that a secret has or had; ``destroyed_at``: it cannot be decrypted any more."""

    number: int
    current: bool
    created_at: datetime
    destroyed_at: datetime | None = None


class Grant(_Model):
    """A grant on a workflow: ``kind`` is ``member`` or ``role``, ``level`` is ``read``, ``run`` or ``write``."""

    id: str
    kind: str
    name: str
    level: str


class Quota(_Model):
    """A limit; ``None`` is no limit. ``overridden``: it is the tenant's own, not its plan's."""

    quota: str
    limit: int | None = None
    overridden: bool
    meaning: str


class Quotas(_Model):
    """The tenant's plan and its limits."""

    plan: str
    quotas: tuple[Quota, ...]


class Used(_Model):
    """Usage of a quota; ``used`` is ``None`` where nothing adds up."""

    quota: str
    used: int | None = None
    limit: int | None = None
    resets_at: datetime | None = None


class Day(_Model):
    """Counts for one day (UTC)."""

    date: Date
    runs: int


class Usage(_Model):
    """Usage of the tenant's limits, now and on each day."""

    plan: str
    quotas: tuple[Used, ...]
    history: tuple[Day, ...]


class AuditFinding(_Model):
    """An entry of the audit, by its number ``seq``, that is not as it was written; ``kind`` says in which way."""

    seq: int
    kind: str
    detail: str


class AuditVerification(_Model):
    """Result of verifying a part of the audit; unless ``complete``, continue after ``seq`` with ``hash``."""

    whole: bool
    complete: bool
    entries: int
    seq: int
    hash: str
    findings: tuple[AuditFinding, ...]
    more_findings: int = 0


class Session(_Model):
    """The tokens of somebody who logged in; times are in seconds. ``access_token`` is used as a key is."""

    access_token: str = Field(repr=False)
    expires_in: int
    refresh_token: str = Field(repr=False)
    refresh_expires_in: int


class StreamTicket(_Model):
    """A ticket that opens one stream, once, within ``expires_in`` seconds; ``run`` is ``None`` for the tenant's log."""

    ticket: str = Field(repr=False)
    expires_at: datetime
    expires_in: int
    run: str | None = None
