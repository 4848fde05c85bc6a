# Generated from asynchronous_tenancy.py by `make format`: edit that one.
"""Operations on a tenant, and sending requests, of the client for code without an event loop."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import date, datetime
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import httpx2
import stamina

from pyflow_client import tenancy_calls, webhook_calls
from pyflow_client.answers import understand
from pyflow_client.calls import AnswerT, Call, Filter
from pyflow_client.connection import arguments, no_answer, options
from pyflow_client.errors import ConnectionFailed
from pyflow_client.models import Page
from pyflow_client.paging import ItemT, Pages
from pyflow_client.retries import FOLLOWING, Retries
from pyflow_client.tenancy_models import (
    Accepted,
    ApiKey,
    AuditEntry,
    AuditVerification,
    Grant,
    Invitation,
    Level,
    Me,
    Member,
    Quotas,
    Secret,
    SecretVersion,
    Session,
    StreamTicket,
    Tenant,
    Usage,
)
from pyflow_client.webhook_models import Delivery, Redelivered, WebhookEndpoint


class TenantClient:
    """The base of ``Client``: its connection, and its methods about the tenant."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: Retries | None = None,
        following: Retries = FOLLOWING,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._http = httpx2.Client(**options(base_url, api_key, timeout), transport=transport)
        self._timeout = timeout
        self._retries = retries or Retries()
        self._following = following

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._http.base_url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def me(self) -> Me:
        """Return the identity of the credential, and its permissions."""
        return self._send(tenancy_calls.me())

    def leave(self) -> None:
        """Leave the tenant, as a user; ``Conflict`` for its last owner."""
        self._send(tenancy_calls.leave())

    def tenant(self) -> Tenant:
        """The tenant of the credential."""
        return self._send(tenancy_calls.tenant())

    def rename_tenant(self, name: str, *, if_match: str = "*") -> Tenant:
        """Give the tenant another name; ``if_match`` is the ``ETag`` that must be its present one."""
        return self._send(tenancy_calls.rename_tenant(name, if_match))

    def members(self) -> Iterator[Member]:
        """All members, those who joined first come first."""
        yield from self._pages(Pages("api/v1/members", Page[Member]))

    def change_role(self, member_id: str | UUID, role: str, *, if_match: str = "*") -> Member:
        """Give a member another role; ``Conflict`` for the last owner."""
        return self._send(tenancy_calls.change_role(member_id, role, if_match))

    def remove_member(self, member_id: str | UUID) -> None:
        """End a membership, and the keys that the member made; ``Conflict`` for the last owner."""
        self._send(tenancy_calls.remove_member(member_id))

    def invitations(self) -> Iterator[Invitation]:
        """All invitations, the newest first."""
        yield from self._pages(Pages("api/v1/invitations", Page[Invitation]))

    def invite(self, email: str, role: str, *, expires_in: int | None = None) -> Invitation:
        """Offer a membership, for ``expires_in`` seconds; the ``token`` is shown this once."""
        return self._send(tenancy_calls.invite(email, role, expires_in))

    def revoke_invitation(self, invitation_id: str | UUID) -> None:
        """Withdraw an invitation; ``Conflict`` if it was accepted."""
        self._send(tenancy_calls.revoke_invitation(invitation_id))

    def accept_invitation(self, token: str, password: str | None = None) -> Accepted:
        """Take the place that an invitation offers; the password is that of the account, old or new."""
        return self._send(tenancy_calls.accept_invitation(token, password))

    def api_keys(self) -> Iterator[ApiKey]:
        """All keys, the newest first, those that ended included."""
        yield from self._pages(Pages("api/v1/api-keys", Page[ApiKey]))

    def create_api_key(
        self, name: str, role: str, *, scopes: Collection[str] | None = None, expires_at: datetime | None = None
    ) -> ApiKey:
        """Make a key; its ``key`` is shown this once."""
        return self._send(tenancy_calls.create_api_key(name, role, scopes, expires_at))

    def revoke_api_key(self, key_id: str | UUID) -> None:
        """End a key now."""
        self._send(tenancy_calls.revoke_api_key(key_id))

    def rotate_api_key(self, key_id: str | UUID, *, grace: int | None = None) -> ApiKey:
        """Make the successor of a key, which works for ``grace`` more seconds; ``key`` is shown this once."""
        return self._send(tenancy_calls.rotate_api_key(key_id, grace))

    def audit(self, **filters: str) -> Iterator[AuditEntry]:
        """List audit entries, newest first; filters are ``action``, ``actor``, ``target``, ``since``, ``until``."""
        yield from self._pages(Pages("api/v1/audit", Page[AuditEntry], filters))

    def verify_audit(self, *, after: tuple[int, str] | None = None) -> AuditVerification:
        """Verify the audit: 5,000 entries at most, ``after`` the one with this number and hash."""
        return self._send(tenancy_calls.verify_audit(after))

    def log_in(self, tenant: str, username: str, password: str) -> Session:
        """Log a member in; the ``access_token`` is then what a client is made with, in place of a key."""
        return self._send(tenancy_calls.log_in(tenant, username, password))

    def renew_session(self, refresh_token: str) -> Session:
        """The next tokens of a session; the old refresh token is used up."""
        return self._send(tenancy_calls.renew_session(refresh_token))

    def log_out(self, refresh_token: str) -> None:
        """End a session."""
        self._send(tenancy_calls.log_out(refresh_token))

    def stream_ticket(self, run_id: str | UUID | None = None) -> StreamTicket:
        """Ask for a ticket that lets a page in a browser open one stream: of a run, or of the tenant's log."""
        return self._send(tenancy_calls.stream_ticket(run_id))

    def member(self, member_id: str | UUID) -> Member:
        """One member."""
        return self._send(tenancy_calls.get_member(member_id))

    def invitation(self, invitation_id: str | UUID) -> Invitation:
        """One invitation."""
        return self._send(tenancy_calls.get_invitation(invitation_id))

    def api_key(self, key_id: str | UUID) -> ApiKey:
        """One key, without its text."""
        return self._send(tenancy_calls.get_api_key(key_id))

    def secrets(self, **filters: str) -> Iterator[Secret]:
        """All secrets by name, without their values; the filter is ``search``."""
        yield from self._pages(Pages("api/v1/secrets", Page[Secret], filters))

    def secret(self, name: str) -> Secret:
        """One secret, without its value."""
        return self._send(tenancy_calls.get_secret(name))

    def create_secret(self, name: str, value: str, *, description: str = "") -> Secret:
        """Store a new secret; its value is never shown again. ``Conflict`` if the name is taken."""
        return self._send(tenancy_calls.create_secret(name, value, description))

    def replace_secret(self, name: str, value: str, *, description: str | None = None, if_match: str = "*") -> Secret:
        """Give a secret another value, which nodes get that start from now on. The earlier one is kept, encrypted."""
        return self._send(tenancy_calls.replace_secret(name, value, description, if_match))

    def rotate_secret(self, name: str, value: str, *, if_match: str = "*") -> Secret:
        """Give a secret another value and destroy the earlier ones, for a value that leaked."""
        return self._send(tenancy_calls.rotate_secret(name, value, if_match))

    def delete_secret(self, name: str) -> None:
        """Delete a secret with all its values; nodes that ask for it fail."""
        self._send(tenancy_calls.delete_secret(name))

    def secret_versions(self, name: str) -> Iterator[SecretVersion]:
        """The values that a secret has and had, without them, the newest first."""
        yield from self._pages(Pages(f"{tenancy_calls.secret_path(name)}/versions", Page[SecretVersion]))

    def destroy_secret_version(self, name: str, number: int) -> None:
        """Destroy an earlier value; ``Conflict`` for the current one."""
        self._send(tenancy_calls.destroy_secret_version(name, number))

    def grants(self, workflow: str) -> list[Grant]:
        """The grants of a workflow."""
        return self._send(tenancy_calls.grants(workflow)).results

    def share_with_member(self, workflow: str, member_id: str | UUID, level: Level) -> Grant:
        """Share a workflow and its runs with a member; a second time sets another level."""
        return self._send(tenancy_calls.share(workflow, level, "member", str(member_id)))

    def share_with_role(self, workflow: str, role: str, level: Level) -> Grant:
        """Share a workflow and its runs with all who have a role; a second time sets another level."""
        return self._send(tenancy_calls.share(workflow, level, "role", role))

    def unshare(self, workflow: str, grant_id: str) -> None:
        """End a grant, by its ``id``."""
        self._send(tenancy_calls.unshare(workflow, grant_id))

    def quotas(self) -> Quotas:
        """The tenant's plan and its limits."""
        return self._send(tenancy_calls.quotas())

    def usage(self, first: date | None = None, last: date | None = None) -> Usage:
        """Return the usage of the limits, with the runs of each day from ``first`` to ``last`` (UTC; last 30 days)."""
        return self._send(tenancy_calls.usage(first, last))

    def webhooks(self) -> Iterator[WebhookEndpoint]:
        """All webhook endpoints, the newest first, without their secrets."""
        yield from self._pages(Pages(webhook_calls.WEBHOOKS, Page[WebhookEndpoint]))

    def webhook(self, webhook_id: str | UUID) -> WebhookEndpoint:
        """One webhook endpoint, without its secret."""
        return self._send(webhook_calls.get_webhook(webhook_id))

    def create_webhook(
        self,
        url: str,
        *,
        description: str = "",
        types: Collection[str] = (),
        workflows: Collection[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> WebhookEndpoint:
        """Send the events that pass the filters to a URL; the ``secret`` that verifies them is shown this once."""
        values = {
            "description": description,
            "types": list(types),
            "workflows": list(workflows),
            "labels": dict(labels or {}),
        }
        return self._send(webhook_calls.create_webhook(url, values))

    def update_webhook(self, webhook_id: str | UUID, *, if_match: str = "*", **changes: Any) -> WebhookEndpoint:
        """Change ``url``, ``description``, ``types``, ``workflows`` or ``labels`` of a webhook endpoint."""
        return self._send(webhook_calls.update_webhook(webhook_id, changes, if_match))

    def delete_webhook(self, webhook_id: str | UUID) -> None:
        """Delete a webhook endpoint with its deliveries."""
        self._send(webhook_calls.delete_webhook(webhook_id))

    def rotate_webhook(self, webhook_id: str | UUID, *, force: bool = False) -> WebhookEndpoint:
        """Make a new ``secret``, shown this once; the old one signs as well for 24 hours.

        ``Conflict`` for a second time within them, unless ``force`` drops the older one.
        """
        return self._send(webhook_calls.rotate_webhook(webhook_id, force))

    def test_webhook(self, webhook_id: str | UUID) -> Delivery:
        """Send a webhook endpoint an event of the type ``webhook.test``."""
        return self._send(webhook_calls.test_webhook(webhook_id))

    def pause_webhook(self, webhook_id: str | UUID) -> WebhookEndpoint:
        """Send a webhook endpoint nothing until it is resumed."""
        return self._send(webhook_calls.pause_webhook(webhook_id))

    def resume_webhook(self, webhook_id: str | UUID, *, skip: bool = False) -> WebhookEndpoint:
        """Send a webhook endpoint what is pending and, unless ``skip``, what has happened meanwhile."""
        return self._send(webhook_calls.resume_webhook(webhook_id, skip))

    def redeliver_webhook(
        self,
        webhook_id: str | UUID,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        states: Collection[str] | None = None,
    ) -> Redelivered:
        """Send the deliveries of a webhook endpoint again that failed for good, or are in other ``states``."""
        return self._send(webhook_calls.redeliver_webhook(webhook_id, since, until, states))

    def deliveries(self, **filters: Filter) -> Iterator[Delivery]:
        """Deliveries, newest first; filters are ``webhook``, ``state``, ``type``, ``run``, ``since``, ``until``."""
        yield from self._pages(Pages(webhook_calls.DELIVERIES, Page[Delivery], filters))

    def delivery(self, delivery_id: str | UUID) -> Delivery:
        """One delivery, with its body and its last attempts."""
        return self._send(webhook_calls.get_delivery(delivery_id))

    def redeliver(self, delivery_id: str | UUID) -> Delivery:
        """Send a delivery again, with the same ``webhook-id``."""
        return self._send(webhook_calls.redeliver(delivery_id))

    def _pages(self, pages: Pages[ItemT]) -> Iterator[ItemT]:
        while not pages.done:
            yield from pages.take(self._send(pages.call()))

    def _send(self, call: Call[AnswerT], retries: Retries | None = None) -> AnswerT:
        if not call.repeatable:
            return self._once(call)
        retries = retries or self._retries
        caller = stamina.RetryingCaller(**retries.bounds())
        return caller(retries.wait_after, self._once, call)

    def _once(self, call: Call[AnswerT]) -> AnswerT:
        try:
            response = self._http.send(self._http.build_request(**arguments(call, self._timeout)))
        except httpx2.RequestError as error:
            raise ConnectionFailed(no_answer(error)) from error
        return understand(call, response)
