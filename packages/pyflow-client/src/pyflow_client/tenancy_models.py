"""Models of a tenant's secrets, grants, limits and sessions, like the models in ``models``."""

from __future__ import annotations

from datetime import date as Date  # noqa: N812 - a field is called `date`
from datetime import datetime
from typing import Literal

from pydantic import Field

from pyflow_client.models import _Model

Level = Literal["read", "run", "write"]


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
