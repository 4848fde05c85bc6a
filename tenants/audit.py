"""The record of what was done: append-only and chained by hashes, one chain per tenant.

``hash`` is SHA-256 over the hash before it, a newline, and the record's canonical JSON, all as UTF-8.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.access import Actor
from tenants.models import AuditEntry, AuditHead


def record(
    *,
    by: Actor,
    action: str,
    target: str,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> AuditEntry:
    """Add an entry in the current transaction, which must be the one of the change itself.

    ``action`` is a noun and a verb (``workflow.published``), ``target`` a type and an id (``workflow:hello``). Neither
    ``before`` nor ``after`` may hold the value of a secret.
    """
    with transaction.atomic():
        rows = AuditHead.objects.for_tenant(by.tenant_id).select_for_update()
        head = rows.first()
        if head is None:
            AuditHead.objects.bulk_create([AuditHead(tenant_id=by.tenant_id)], ignore_conflicts=True)
            head = rows.get()
        entry = _next(head, by, action, target, {"before": before, "after": after})
        entry.save(force_insert=True)
        rows.update(seq=entry.seq, hash=entry.hash)
    return entry


def _next(head: AuditHead, by: Actor, action: str, target: str, change: Mapping[str, Any]) -> AuditEntry:
    entry_id, at, seq = new_uuid(), timezone.now(), head.seq + 1
    text = canonical(
        {
            "id": str(entry_id),
            "tenant": str(by.tenant_id),
            "seq": seq,
            "at": at.isoformat(),
            "actor": {"kind": by.kind, "id": by.id, "name": by.name},
            "action": action,
            "target": target,
            "request_id": by.request_id,
            "address": by.address,
            **change,
        }
    )
    return AuditEntry(
        id=entry_id,
        tenant_id=by.tenant_id,
        seq=seq,
        at=at,
        actor_kind=by.kind,
        actor=by.id,
        action=action,
        target=target,
        record=text,
        previous=head.hash,
        hash=chain(head.hash, text),
    )


def chain(previous: str, text: str) -> str:
    """The hash of a record that follows the one with the hash ``previous``."""
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def canonical(data: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces: the same text for the same data."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
