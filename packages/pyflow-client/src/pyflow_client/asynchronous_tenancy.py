"""Operations on a tenant, and sending requests, of the client for code on an event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
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


class AsyncTenantClient:
    """The base of ``AsyncClient``: its connection, and its methods about the tenant."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout: float = 30.0,
        retries: Retries | None = None,
        following: Retries = FOLLOWING,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx2.AsyncClient(**options(base_url, api_key, timeout), transport=transport)
        self._timeout = timeout
        self._retries = retries or Retries()
        self._following = following

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._http.base_url}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def me(self) -> Me:
        """Return the identity of the credential, and its permissions."""
        return await self._send(tenancy_calls.me())

    async def leave(self) -> None:
        """Leave the tenant, as a user; ``Conflict`` for its last owner."""
        await self._send(tenancy_calls.leave())

    async def tenant(self) -> Tenant:
        """The tenant of the credential."""
        return await self._send(tenancy_calls.tenant())

    async def rename_tenant(self, name: str, *, if_match: str = "*") -> Tenant:
        """Give the tenant another name; ``if_match`` is the ``ETag`` that must be its present one."""
        return await self._send(tenancy_calls.rename_tenant(name, if_match))

    async def members(self) -> AsyncIterator[Member]:
        """All members, those who joined first come first."""
        async for item in self._pages(Pages("api/v1/members", Page[Member])):
            yield item

    async def change_role(self, member_id: str | UUID, role: str, *, if_match: str = "*") -> Member:
        """Give a member another role; ``Conflict`` for the last owner."""
        return await self._send(tenancy_calls.change_role(member_id, role, if_match))

    async def remove_member(self, member_id: str | UUID) -> None:
        """End a membership, and the keys that the member made; ``Conflict`` for the last owner."""
        await self._send(tenancy_calls.remove_member(member_id))

    async def invitations(self) -> AsyncIterator[Invitation]:
        """All invitations, the newest first."""
        async for item in self._pages(Pages("api/v1/invitations", Page[Invitation])):
            yield item

    async def invite(self, email: str, role: str, *, expires_in: int | None = None) -> Invitation:
        """Offer a membership, for ``expires_in`` seconds; the ``token`` is shown this once."""
        return await self._send(tenancy_calls.invite(email, role, expires_in))

    async def revoke_invitation(self, invitation_id: str | UUID) -> None:
        """Withdraw an invitation; ``Conflict`` if it was accepted."""
        await self._send(tenancy_calls.revoke_invitation(invitation_id))

    async def accept_invitation(self, token: str, password: str | None = None) -> Accepted:
        """Take the place that an invitation offers; the password is that of the account, old or new."""
        return await self._send(tenancy_calls.accept_invitation(token, password))

    async def api_keys(self) -> AsyncIterator[ApiKey]:
        """All keys, the newest first, those that ended included."""
        async for item in self._pages(Pages("api/v1/api-keys", Page[ApiKey])):
            yield item

    async def create_api_key(
        self, name: str, role: str, *, scopes: Collection[str] | None = None, expires_at: datetime | None = None
    ) -> ApiKey:
        """Make a key; its ``key`` is shown this once."""
        return await self._send(tenancy_calls.create_api_key(name, role, scopes, expires_at))

    async def revoke_api_key(self, key_id: str | UUID) -> None:
        """End a key now."""
        await self._send(tenancy_calls.revoke_api_key(key_id))

    async def rotate_api_key(self, key_id: str | UUID, *, grace: int | None = None) -> ApiKey:
        """Make the successor of a key, which works for ``grace`` more seconds; ``key`` is shown this once."""
        return await self._send(tenancy_calls.rotate_api_key(key_id, grace))

    async def audit(self, **filters: str) -> AsyncIterator[AuditEntry]:
        """List audit entries, newest first; filters are ``action``, ``actor``, ``target``, ``since``, ``until``."""
        async for item in self._pages(Pages("api/v1/audit", Page[AuditEntry], filters)):
            yield item

    async def verify_audit(self, *, after: tuple[int, str] | None = None) -> AuditVerification:
        """Verify the audit: 5,000 entries at most, ``after`` the one with this number and hash."""
        return await self._send(tenancy_calls.verify_audit(after))

    async def log_in(self, tenant: str, username: str, password: str) -> Session:
        """Log a member in; the ``access_token`` is then what a client is made with, in place of a key."""
        return await self._send(tenancy_calls.log_in(tenant, username, password))

    async def renew_session(self, refresh_token: str) -> Session:
        """The next tokens of a session; the old refresh token is used up."""
        return await self._send(tenancy_calls.renew_session(refresh_token))

    async def log_out(self, refresh_token: str) -> None:
        """End a session."""
        await self._send(tenancy_calls.log_out(refresh_token))

    async def stream_ticket(self, run_id: str | UUID | None = None) -> StreamTicket:
        """Ask for a ticket that lets a page in a browser open one stream: of a run, or of the tenant's log."""
        return await self._send(tenancy_calls.stream_ticket(run_id))

    async def member(self, member_id: str | UUID) -> Member:
        """One member."""
        return await self._send(tenancy_calls.get_member(member_id))

    async def invitation(self, invitation_id: str | UUID) -> Invitation:
        """One invitation."""
        return await self._send(tenancy_calls.get_invitation(invitation_id))

    async def api_key(self, key_id: str | UUID) -> ApiKey:
        """One key, without its text."""
        return await self._send(tenancy_calls.get_api_key(key_id))

    async def secrets(self, **filters: str) -> AsyncIterator[Secret]:
        """All secrets by name, without their values; the filter is ``search``."""
        async for item in self._pages(Pages("api/v1/secrets", Page[Secret], filters)):
            yield item

    async def secret(self, name: str) -> Secret:
        """One secret, without its value."""
        return await self._send(tenancy_calls.get_secret(name))

    async def create_secret(self, name: str, value: str, *, description: str = "") -> Secret:
        """Store a new secret; its value is never shown again. ``Conflict`` if the name is taken."""
        return await self._send(tenancy_calls.create_secret(name, value, description))

    async def replace_secret(
        self, name: str, value: str, *, description: str | None = None, if_match: str = "*"
    ) -> Secret:
        """Give a secret another value, which nodes get that start from now on. The earlier one is kept, encrypted."""
        return await self._send(tenancy_calls.replace_secret(name, value, description, if_match))

    async def rotate_secret(self, name: str, value: str, *, if_match: str = "*") -> Secret:
        """Give a secret another value and destroy the earlier ones, for a value that leaked."""
        return await self._send(tenancy_calls.rotate_secret(name, value, if_match))

    async def delete_secret(self, name: str) -> None:
        """Delete a secret with all its values; nodes that ask for it fail."""
        await self._send(tenancy_calls.delete_secret(name))

    async def secret_versions(self, name: str) -> AsyncIterator[SecretVersion]:
        """The values that a secret has and had, without them, the newest first."""
        async for item in self._pages(Pages(f"{tenancy_calls.secret_path(name)}/versions", Page[SecretVersion])):
            yield item

    async def destroy_secret_version(self, name: str, number: int) -> None:
        """Destroy an earlier value; ``Conflict`` for the current one."""
        await self._send(tenancy_calls.destroy_secret_version(name, number))

    async def grants(self, workflow: str) -> list[Grant]:
        """The grants of a workflow."""
        return (await self._send(tenancy_calls.grants(workflow))).results

    async def share_with_member(self, workflow: str, member_id: str | UUID, level: Level) -> Grant:
        """Share a workflow and its runs with a member; a second time sets another level."""
        return await self._send(tenancy_calls.share(workflow, level, "member", str(member_id)))

    async def share_with_role(self, workflow: str, role: str, level: Level) -> Grant:
        """Share a workflow and its runs with all who have a role; a second time sets another level."""
        return await self._send(tenancy_calls.share(workflow, level, "role", role))

    async def unshare(self, workflow: str, grant_id: str) -> None:
        """End a grant, by its ``id``."""
        await self._send(tenancy_calls.unshare(workflow, grant_id))

    async def quotas(self) -> Quotas:
        """The tenant's plan and its limits."""
        return await self._send(tenancy_calls.quotas())

    async def usage(self, first: date | None = None, last: date | None = None) -> Usage:
        """Return the usage of the limits, with the runs of each day from ``first`` to ``last`` (UTC; last 30 days)."""
        return await self._send(tenancy_calls.usage(first, last))

    async def webhooks(self) -> AsyncIterator[WebhookEndpoint]:
        """All webhook endpoints, the newest first, without their secrets."""
        async for item in self._pages(Pages(webhook_calls.WEBHOOKS, Page[WebhookEndpoint])):
            yield item

    async def webhook(self, webhook_id: str | UUID) -> WebhookEndpoint:
        """One webhook endpoint, without its secret."""
        return await self._send(webhook_calls.get_webhook(webhook_id))

    async def create_webhook(
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
        return await self._send(webhook_calls.create_webhook(url, values))

    async def update_webhook(self, webhook_id: str | UUID, *, if_match: str = "*", **changes: Any) -> WebhookEndpoint:
        """Change ``url``, ``description``, ``types``, ``workflows`` or ``labels`` of a webhook endpoint."""
        return await self._send(webhook_calls.update_webhook(webhook_id, changes, if_match))

    async def delete_webhook(self, webhook_id: str | UUID) -> None:
        """Delete a webhook endpoint with its deliveries."""
        await self._send(webhook_calls.delete_webhook(webhook_id))

    async def rotate_webhook(self, webhook_id: str | UUID, *, force: bool = False) -> WebhookEndpoint:
        """Make a new ``secret``, shown this once; the old one signs as well for 24 hours.

        ``Conflict`` for a second time within them, unless ``force`` drops the older one.
        """
        return await self._send(webhook_calls.rotate_webhook(webhook_id, force))

    async def test_webhook(self, webhook_id: str | UUID) -> Delivery:
        """Send a webhook endpoint an event of the type ``webhook.test``."""
        return await self._send(webhook_calls.test_webhook(webhook_id))

    async def pause_webhook(self, webhook_id: str | UUID) -> WebhookEndpoint:
        """Send a webhook endpoint nothing until it is resumed."""
        return await self._send(webhook_calls.pause_webhook(webhook_id))

    async def resume_webhook(self, webhook_id: str | UUID, *, skip: bool = False) -> WebhookEndpoint:
        """Send a webhook endpoint what is pending and, unless ``skip``, what has happened meanwhile."""
        return await self._send(webhook_calls.resume_webhook(webhook_id, skip))

    async def redeliver_webhook(
        self,
        webhook_id: str | UUID,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        states: Collection[str] | None = None,
    ) -> Redelivered:
        """Send the deliveries of a webhook endpoint again that failed for good, or are in other ``states``."""
        return await self._send(webhook_calls.redeliver_webhook(webhook_id, since, until, states))

    async def deliveries(self, **filters: Filter) -> AsyncIterator[Delivery]:
        """Deliveries, newest first; filters are ``webhook``, ``state``, ``type``, ``run``, ``since``, ``until``."""
        async for item in self._pages(Pages(webhook_calls.DELIVERIES, Page[Delivery], filters)):
            yield item

    async def delivery(self, delivery_id: str | UUID) -> Delivery:
        """One delivery, with its body and its last attempts."""
        return await self._send(webhook_calls.get_delivery(delivery_id))

    async def redeliver(self, delivery_id: str | UUID) -> Delivery:
        """Send a delivery again, with the same ``webhook-id``."""
        return await self._send(webhook_calls.redeliver(delivery_id))

    async def _pages(self, pages: Pages[ItemT]) -> AsyncIterator[ItemT]:
        while not pages.done:
            for item in pages.take(await self._send(pages.call())):
                yield item

    async def _send(self, call: Call[AnswerT], retries: Retries | None = None) -> AnswerT:
        if not call.repeatable:
            return await self._once(call)
        retries = retries or self._retries
        caller = stamina.AsyncRetryingCaller(**retries.bounds())
        return await caller(retries.wait_after, self._once, call)

    async def _once(self, call: Call[AnswerT]) -> AnswerT:
        try:
            response = await self._http.send(self._http.build_request(**arguments(call, self._timeout)))
        except httpx2.RequestError as error:
            raise ConnectionFailed(no_answer(error)) from error
        return understand(call, response)
