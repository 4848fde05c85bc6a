"""The requests about a tenant: its people, keys, secrets, sharing and limits. Described as in ``calls``."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from pyflow_client.calls import Call, json_call, segment
from pyflow_client.models import Nothing, Page
from pyflow_client.tenancy_models import (
    Accepted,
    ApiKey,
    AuditVerification,
    Grant,
    Invitation,
    Me,
    Member,
    Quotas,
    Secret,
    Session,
    StreamTicket,
    Tenant,
    Usage,
)


def me() -> Call[Me]:
    """Read the identity of the credential."""
    return Call("GET", "api/v1/me", Me)


def leave() -> Call[Nothing]:
    """The end of the user's own membership."""
    return Call("DELETE", "api/v1/me", Nothing, repeatable=False)


def tenant() -> Call[Tenant]:
    """The tenant of the credential."""
    return Call("GET", "api/v1/tenants/current", Tenant)


def rename_tenant(name: str, if_match: str) -> Call[Tenant]:
    """Another name for the tenant."""
    return json_call("PATCH", "api/v1/tenants/current", Tenant, {"name": name}, headers={"If-Match": if_match})


def change_role(member_id: str | UUID, role: str, if_match: str) -> Call[Member]:
    """Another role for a member."""
    path = f"api/v1/members/{segment(str(member_id))}"
    return json_call("PATCH", path, Member, {"role": role}, headers={"If-Match": if_match})


def remove_member(member_id: str | UUID) -> Call[Nothing]:
    """The end of a membership. Not repeatable: the second time there is no such member."""
    return Call("DELETE", f"api/v1/members/{segment(str(member_id))}", Nothing, repeatable=False)


def invite(email: str, role: str, expires_in: int | None) -> Call[Invitation]:
    """An invitation. Not repeatable: its token is shown once."""
    body = {"email": email, "role": role} | ({} if expires_in is None else {"expires_in": expires_in})
    return json_call("POST", "api/v1/invitations", Invitation, body, repeatable=False)


def revoke_invitation(invitation_id: str | UUID) -> Call[Nothing]:
    """The withdrawal of an invitation; the second one changes nothing."""
    return Call("DELETE", f"api/v1/invitations/{segment(str(invitation_id))}", Nothing)


def accept_invitation(token: str, password: str | None) -> Call[Accepted]:
    """The place that an invitation offers."""
    body = {"token": token} | ({} if password is None else {"password": password})
    return json_call("POST", "api/v1/invitations/accept", Accepted, body, repeatable=False)


def create_api_key(name: str, role: str, scopes: Collection[str] | None, expires_at: datetime | None) -> Call[ApiKey]:
    """A key. Not repeatable: it is shown once."""
    body = {
        "name": name,
        "role": role,
        "scopes": None if scopes is None else list(scopes),
        "expires_at": None if expires_at is None else expires_at.isoformat(),
    }
    return json_call("POST", "api/v1/api-keys", ApiKey, body, repeatable=False)


def revoke_api_key(key_id: str | UUID) -> Call[Nothing]:
    """The end of a key; the second one changes nothing."""
    return Call("DELETE", f"api/v1/api-keys/{segment(str(key_id))}", Nothing)


def rotate_api_key(key_id: str | UUID, grace: int | None) -> Call[ApiKey]:
    """The successor of a key. Not repeatable: it is shown once."""
    path = f"api/v1/api-keys/{segment(str(key_id))}/rotate"
    return json_call("POST", path, ApiKey, {} if grace is None else {"grace": grace}, repeatable=False)


def log_in(tenant: str, username: str, password: str) -> Call[Session]:
    """Tokens for a member. Not repeatable: failed attempts are counted."""
    body = {"tenant": tenant, "username": username, "password": password}
    return json_call("POST", "api/v1/auth/token", Session, body, repeatable=False)


def renew_session(refresh_token: str) -> Call[Session]:
    """The next tokens. Not repeatable: a refresh token is good once."""
    return json_call("POST", "api/v1/auth/refresh", Session, {"refresh_token": refresh_token}, repeatable=False)


def log_out(refresh_token: str) -> Call[Nothing]:
    """The end of a session; the second one changes nothing."""
    return json_call("POST", "api/v1/auth/revoke", Nothing, {"refresh_token": refresh_token})


def stream_ticket(run_id: str | UUID | None) -> Call[StreamTicket]:
    """A ticket for a stream. Not repeatable: it is shown once."""
    body = {} if run_id is None else {"run": str(run_id)}
    return json_call("POST", "api/v1/auth/tickets", StreamTicket, body, repeatable=False)


def get_member(member_id: str | UUID) -> Call[Member]:
    """One member."""
    return Call("GET", f"api/v1/members/{segment(str(member_id))}", Member)


def get_invitation(invitation_id: str | UUID) -> Call[Invitation]:
    """One invitation."""
    return Call("GET", f"api/v1/invitations/{segment(str(invitation_id))}", Invitation)


def get_api_key(key_id: str | UUID) -> Call[ApiKey]:
    """One key."""
    return Call("GET", f"api/v1/api-keys/{segment(str(key_id))}", ApiKey)


def secret_path(name: str) -> str:
    """Return the path of a secret."""
    return f"api/v1/secrets/{segment(name)}"


def get_secret(name: str) -> Call[Secret]:
    """One secret, without its value."""
    return Call("GET", secret_path(name), Secret)


def create_secret(name: str, value: str, description: str) -> Call[Secret]:
    """A new secret. Not repeatable: the second time the name is taken."""
    body = {"name": name, "value": value, "description": description}
    return json_call("POST", "api/v1/secrets", Secret, body, repeatable=False)


def replace_secret(name: str, value: str, description: str | None, if_match: str) -> Call[Secret]:
    """Another value. Not repeatable: a second request makes another version."""
    body = {"value": value} | ({} if description is None else {"description": description})
    return json_call("PUT", secret_path(name), Secret, body, headers={"If-Match": if_match}, repeatable=False)


def rotate_secret(name: str, value: str, if_match: str) -> Call[Secret]:
    """Another value, and the end of the earlier ones. Not repeatable: as ``replace_secret``."""
    headers = {"If-Match": if_match}
    return json_call("POST", f"{secret_path(name)}/rotate", Secret, {"value": value}, headers=headers, repeatable=False)


def delete_secret(name: str) -> Call[Nothing]:
    """The end of a secret. Not repeatable: the second time there is none."""
    return Call("DELETE", secret_path(name), Nothing, repeatable=False)


def destroy_secret_version(name: str, number: int) -> Call[Nothing]:
    """The end of an earlier value; the second one changes nothing."""
    return Call("DELETE", f"{secret_path(name)}/versions/{number:d}", Nothing)


def grants_path(workflow: str) -> str:
    """Return the path of the grants of a workflow."""
    return f"api/v1/workflows/{segment(workflow)}/grants"


def grants(workflow: str) -> Call[Page[Grant]]:
    """With whom a workflow is shared; there are no pages."""
    return Call("GET", grants_path(workflow), Page[Grant])


def share(workflow: str, level: str, kind: Literal["member", "role"], whom: str) -> Call[Grant]:
    """A grant. Repeatable: a second time with the same is the same."""
    return json_call("POST", grants_path(workflow), Grant, {kind: whom, "level": level})


def unshare(workflow: str, grant_id: str) -> Call[Nothing]:
    """The end of a grant. Not repeatable: the second time there is none."""
    return Call("DELETE", f"{grants_path(workflow)}/{segment(grant_id)}", Nothing, repeatable=False)


def verify_audit(after: tuple[int, str] | None) -> Call[AuditVerification]:
    """Verify the audit, from an entry on."""
    params = {} if after is None else {"after": str(after[0]), "hash": after[1]}
    return Call("GET", "api/v1/audit/verify", AuditVerification, params=params)


def quotas() -> Call[Quotas]:
    """The plan and its limits."""
    return Call("GET", "api/v1/quotas", Quotas)


def usage(first: date | None, last: date | None) -> Call[Usage]:
    """Read the usage of the limits."""
    days: dict[str, Any] = {"from": first, "to": last}
    return Call("GET", "api/v1/usage", Usage, params={name: day.isoformat() for name, day in days.items() if day})
