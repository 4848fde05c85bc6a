"""Checks the permission of a stream again while it is open."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from events.streams.rows import End
from runs.services.find import workflow_of_run
from tenants.access import Permission, Principal
from tenants.authentication import look_again
from tenants.errors import InvalidKeyError, InvalidTokenError
from tenants.grants import permissions_on
from tenants.scoping import tenant_scope

EXPIRED = End("not_authenticated", "The credential of this stream is not valid any more.", 401)
NOT_ALLOWED = End("forbidden", "The caller may not read these events any more.", 403)


class Access(Protocol):
    """The permission of a stream, which can end before the stream does."""

    @property
    def ends_at(self) -> datetime | None:
        """Return the moment at which the credential expires."""

    @property
    def is_fleeting(self) -> bool:
        """Return whether it can end without a change of the tenant's ``auth_version``: it is checked regularly."""

    def refusal(self) -> End | None:
        """Return why the stream must end now, or ``None``. Asks the database."""


@dataclass(frozen=True, slots=True)
class PrincipalAccess:
    """The access of a caller of the API. ``by_grant``: not by their role, but since the run's workflow is shared."""

    principal: Principal
    run_id: UUID | None
    by_grant: bool

    @property
    def ends_at(self) -> datetime | None:
        """Return the moment at which the key or token expires."""
        return self.principal.credential_ends_at

    @property
    def is_fleeting(self) -> bool:
        """Grants change without the tenant's ``auth_version``."""
        return self.by_grant

    def refusal(self) -> End | None:
        """Look the credential and the permission up."""
        try:
            principal = look_again(self.principal)
        except (InvalidKeyError, InvalidTokenError):
            return EXPIRED
        with tenant_scope(principal.tenant_id, write=False):
            return None if may_follow(principal, self.run_id) else NOT_ALLOWED


def may_follow(principal: Principal, run_id: UUID | None) -> bool:
    """Return whether a principal may read the events of a run, or of the whole tenant; inside the tenant's scope."""
    if not principal.in_scope(Permission.RUNS_READ):
        return False
    if principal.may(Permission.RUNS_READ):
        return True
    shared = None if run_id is None else workflow_of_run(tenant_id=principal.tenant_id, run_id=run_id)
    return shared is not None and Permission.RUNS_READ in permissions_on(principal, shared)
