"""Secrets of endpoints, and signatures by Standard Webhooks (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone
from standardwebhooks import Webhook

from events.models import SECRET_PREFIX, WebhookEndpoint, WebhookSecret
from secrets_vault.services import data_key_of

#: Bytes of a secret; Standard Webhooks asks for 24 to 64.
SECRET_BYTES = 32
#: How long a rotated secret still signs.
OVERLAP = timedelta(hours=24)


def new_secret(endpoint: WebhookEndpoint) -> str:
    """Store a new secret of an endpoint, encrypted, and return it. Raises ``VaultNotConfiguredError``."""
    text = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    row = WebhookSecret(tenant_id=endpoint.tenant_id, endpoint=endpoint)
    row.seal(text, data_key_of(endpoint.tenant_id))
    row.save(force_insert=True)
    return text


def signing_secrets(endpoints: Iterable[WebhookEndpoint], now: datetime) -> QuerySet[WebhookSecret]:
    """Return the secrets that sign at a time, newest first, with their data keys."""
    rows = WebhookSecret.objects.across_tenants().filter(endpoint__in=list(endpoints))
    return rows.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=now)).select_related("data_key").order_by("-id")


def expire_others(endpoint: WebhookEndpoint) -> None:
    """Let the newest secret of an endpoint sign alone from the end of the overlap on, and destroy expired ones."""
    now = timezone.now()
    rows = WebhookSecret.objects.for_tenant(endpoint.tenant_id).filter(endpoint=endpoint)
    newest = rows.order_by("-id").values_list("pk", flat=True)[0]
    rows.exclude(pk=newest).filter(expires_at__isnull=True).update(expires_at=now + OVERLAP)
    rows.filter(expires_at__lte=now).delete()


def headers(message_id: str, body: str, keys: Sequence[str], now: datetime) -> dict[str, str]:
    """Return the three headers of an attempt, with a signature by each secret.

    Neither the id (letters, digits and ``_``) nor the timestamp (digits) can hold the dots between what is signed.
    """
    signatures = [Webhook(key).sign(message_id, now, body) for key in keys]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
