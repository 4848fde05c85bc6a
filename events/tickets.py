"""Tickets: each opens one stream within half a minute, as the principal who asked for it.

Browsers can put no header on a WebSocket, and a page should not have an API key. So a server of the page's, or the page
itself, asks for a ticket, which goes into a subprotocol (WebSocket) or an `Authorization` header (`fetch`). A ticket is
a row that redeeming deletes: of two that redeem it, in whatever processes, one succeeds.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID

from django.utils import timezone

from events.models import StreamTicket
from tenants.access import Principal
from tenants.authentication import principal_of_key, principal_of_session
from tenants.errors import InvalidTokenError
from tenants.scoping import lookup_scope, tenant_scope

#: How long a ticket is good. Seconds.
SECONDS = 30
PREFIX = "pyft_"
REFUSAL = "The ticket is not valid: it was used, has expired, or is for another stream. Ask for a new one."


@dataclass(frozen=True, slots=True)
class Issued:
    """A new ticket: its text, which is kept nowhere, and when it expires."""

    text: str
    expires_at: datetime


def issue(principal: Principal, *, run_id: UUID | None) -> Issued:
    """Issue a ticket for the stream of a run, or of the tenant's log; inside the tenant's scope."""
    tickets, now = StreamTicket.objects.for_tenant(principal.tenant_id), timezone.now()
    tickets.filter(expires_at__lte=now).delete()
    text = PREFIX + secrets.token_urlsafe(32)
    ticket: StreamTicket = StreamTicket.objects.create(
        tenant_id=principal.tenant_id,
        token_hash=_hash(text),
        principal_kind=principal.kind,
        principal_id=principal.id,
        session=principal.session,
        credential_ends_at=principal.credential_ends_at,
        run_id=run_id,
        expires_at=now + timedelta(seconds=SECONDS),
    )
    return Issued(text, ticket.expires_at)


def redeem(text: str, *, run_id: UUID | None) -> Principal:
    """Use a ticket up, and return the principal as it is now. Raises ``InvalidTokenError`` or ``InvalidKeyError``."""
    hashed = _hash(text)
    with lookup_scope(hashed):
        ticket = StreamTicket.objects.presented(hashed)
    if ticket is None:
        raise InvalidTokenError(REFUSAL)
    with tenant_scope(ticket.tenant_id, write=True):
        deleted, _ = StreamTicket.objects.for_tenant(ticket.tenant_id).filter(pk=ticket.pk).delete()
    if not deleted or ticket.expires_at <= timezone.now() or ticket.run_id != run_id:
        raise InvalidTokenError(REFUSAL)
    if ticket.principal_kind == "key":
        return principal_of_key(tenant_id=ticket.tenant_id, key=UUID(ticket.principal_id))
    if ticket.session is None:
        raise InvalidTokenError(REFUSAL)
    return principal_of_session(
        tenant_id=ticket.tenant_id,
        user_id=int(ticket.principal_id),
        session=ticket.session,
        ends_at=ticket.credential_ends_at,
    )


def _hash(text: str) -> str:
    """Tickets have 256 random bits: nothing slower than SHA-256 is needed to keep them."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
