"""The record of what was done: append-only and chained by hashes, one chain per tenant.

``hash`` is SHA-256 over the hash before it, a newline, and the record's canonical JSON, all as UTF-8.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args
from uuid import UUID

from django.db import connection, models, transaction
from django.utils import timezone

from pyflow.core.ids import new_uuid
from tenants.access import Actor
from tenants.errors import AuditBrokenError
from tenants.models import AuditEntry, AuditHead

#: With which action a chain begins: that of a new tenant, or of one from before chains had a known beginning.
GENESIS = frozenset({"tenant.created", "audit.began"})


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
    ``before`` nor ``after`` may hold the value of a secret. Raises ``AuditBrokenError`` where the chain has lost its
    end.
    """
    with transaction.atomic():
        rows = AuditHead.objects.for_tenant(by.tenant_id).select_for_update(no_key=True)
        head = rows.first()
        if head is None:  # a new one would begin a new chain, and hide that the old one is gone
            raise AuditBrokenError(
                f"The head of the audit of the tenant {by.tenant_id} is missing. Nothing is changed without an entry: "
                "ask the operator to run `manage.py verify_audit` and to restore it from a backup."
            )
        entry = _next(head, by, action, target, {"before": before, "after": after})
        entry.save(force_insert=True)
        rows.update(seq=entry.seq, hash=entry.hash)
    return entry


def take_turn(tenant_id: UUID, *, wait: bool = True) -> bool:
    """Lock the head of a tenant's chain before the entry is known: nobody else adds one until this transaction ends.

    ``False``, unless it is to ``wait``, if another transaction has locked it (SQLite has one writer at a time anyway).
    Whoever has the head may only lock what nobody else has locked (``skip_locked``).
    """
    skip = not wait and connection.features.has_select_for_update_skip_locked
    rows = AuditHead.objects.for_tenant(tenant_id).select_for_update(no_key=True, skip_locked=skip)
    return bool(rows.values_list("pk").first())


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


#: How many entries are in memory at a time while a chain is read from end to end.
BATCH = 500


def in_batches(rows: models.QuerySet[AuditEntry], *, after: int = 0) -> Iterator[AuditEntry]:
    """One tenant's entries in their order, each batch a query of its own: memory and locks are bounded."""
    while True:
        batch = next_batch(rows, after)
        yield from batch
        if len(batch) < BATCH:
            return
        after = batch[-1].seq


def next_batch(rows: models.QuerySet[AuditEntry], after: int) -> list[AuditEntry]:
    """The first entries beyond the one numbered ``after``."""
    return list(rows.filter(seq__gt=after).order_by("seq")[:BATCH])


FindingKind = Literal["changed", "removed", "reordered", "truncated", "head"]
FINDING_KINDS: tuple[FindingKind, ...] = get_args(FindingKind)


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference between a chain and what was written, at the entry numbered ``seq``."""

    seq: int
    kind: FindingKind
    detail: str


@dataclass(slots=True)
class Verification:
    """Result of reading a chain. Keep ``hash`` elsewhere: whoever can rewrite the chain can rewrite its end, too.

    One that has ``seq`` and ``hash`` of an entry goes on after that entry. ``complete``: to the end, and the head.
    """

    entries: int = 0
    seq: int = 0
    hash: str = ""
    complete: bool = False


def verify(*, tenant_id: UUID, progress: Verification | None = None, most: int | None = None) -> Iterator[Finding]:
    """Everything that is wrong with a tenant's chain, while others may go on writing; ``progress`` says what was read.

    At most ``most`` entries are read, and the head only when no more are left.

    An entry that was changed, removed, moved or cut off the end shows. So does a missing or changed head, which every
    tenant has from its creation on, and a chain that does not begin with that creation.
    """
    read = progress if progress is not None else Verification()
    rows = AuditEntry.objects.for_tenant(tenant_id)
    for entry in in_batches(rows, after=read.seq):
        if most is not None and read.entries == most:
            return
        if entry.seq == 1 and entry.action not in GENESIS:
            yield Finding(1, "removed", f"the chain begins with `{entry.action}`, not with the creation of the tenant")
        if entry.seq != read.seq + 1:
            gone = f"{read.seq + 1}" if entry.seq == read.seq + 2 else f"{read.seq + 1} to {entry.seq - 1}"
            yield Finding(read.seq + 1, "removed", f"missing: {gone}")
        elif entry.previous != read.hash:
            yield Finding(entry.seq, "reordered", f"does not follow the entry {read.seq}: its hash is another")
        if wrong := _changed(entry):
            yield Finding(entry.seq, "changed", wrong)
        read.entries, read.seq, read.hash = read.entries + 1, entry.seq, entry.hash
    read.complete = True
    yield from _head_findings(tenant_id, read)


def _changed(entry: AuditEntry) -> str:
    if chain(entry.previous, entry.record) != entry.hash:
        return "its record, or what it follows, is not what was hashed"
    record = json.loads(entry.record)
    stored = {
        "id": str(entry.pk),
        "tenant": str(entry.tenant_id),
        "seq": entry.seq,
        "at": entry.at.isoformat(),
        "action": entry.action,
        "target": entry.target,
    }
    differs = [name for name, value in stored.items() if record.get(name) != value]
    actor = record.get("actor", {})
    if (actor.get("kind"), actor.get("id")) != (entry.actor_kind, entry.actor):
        differs.append("actor")
    return f"columns that differ from its record: {', '.join(differs)}" if differs else ""


def _head_findings(tenant_id: UUID, read: Verification) -> Iterator[Finding]:
    # After the entries: the head moves in the transaction of each, so it is never behind what was read.
    head = AuditHead.objects.for_tenant(tenant_id).first()
    if head is None:
        yield Finding(read.seq, "head", "the head of the chain is missing")
    if not read.seq:
        yield Finding(1, "removed", "there is no entry, not even that of the creation of the tenant")
    if head is None:
        return
    newer = AuditEntry.objects.for_tenant(tenant_id).filter(seq__gt=read.seq, seq__lte=head.seq)
    if head.seq < read.seq:
        yield Finding(head.seq, "head", f"the head is at {head.seq}, before the entry {read.seq}")
    elif head.seq > read.seq and newer.count() != head.seq - read.seq:
        yield Finding(read.seq + 1, "truncated", f"missing at the end: {read.seq + 1} to {head.seq}")
    elif head.seq == read.seq and head.hash != read.hash:
        yield Finding(head.seq, "head", "the head has another hash than the last entry")
