"""Appends to the log of events of a tenant, in the transaction of what happened.

Readers follow the log by cursors, so no event may appear behind one that they have read. A ``position`` is the number
of the transaction that wrote the event: readers read up to the ``horizon``, below which no transaction is undecided. On
PostgreSQL the server counts transactions (``pyflow_log_position``, ``pyflow_log_horizon`` of migration 0008); events
are to be read in a statement after the one that asked for the horizon, each with a snapshot of its own. Of a run,
positions never fall while ``seq`` rises, though a later transaction may have the smaller number: each event gets at
least the position of the run's last one. SQLite, with one writer at a time, has a counter in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import IntegrityError, connection, models, transaction

from plumbing.database.dialect import is_postgresql
from plumbing.database.statements import ask
from pyflow.core.events import EventType
from runs.models import EventRecord, LogCounter, LogState, Run
from runs.notify.current import notifications
from tenants.models import Tenant

#: What ``append`` changes of a run that its caller saves.
RUN_FIELDS = ("event_seq", "log_position")
#: SQL (PostgreSQL): the position of what the current transaction writes.
POSITION = "pyflow_log_position()"

_COUNT = (
    f"INSERT INTO {LogCounter._meta.db_table} (id, value) VALUES (1, 1) "  # noqa: S608 - a name of ours
    "ON CONFLICT (id) DO UPDATE SET value = value + 1 RETURNING value"
)

#: What happened to a run or one of its nodes: the type, the node's id or "", and the data.
Happened = tuple[EventType, str, dict[str, Any]]


def append(run: Run, happened: Sequence[Happened], *, at: datetime) -> list[EventRecord]:
    """Append events of a run that the transaction has locked, or inserts; the caller saves its ``RUN_FIELDS``."""
    run.log_position = max(run.log_position, position())
    events = [
        EventRecord(
            tenant_id=run.tenant_id,
            run=run,
            seq=seq,
            type=str(type),
            node_id=node_id,
            at=at,
            data=data,
            position=run.log_position,
        )
        for seq, (type, node_id, data) in enumerate(happened, run.event_seq + 1)
    ]
    run.event_seq += len(events)
    EventRecord.objects.bulk_create(events)
    notifications().notify_events({run.tenant_id: [run.pk]})
    return events


def append_outside(
    *,
    tenant_id: UUID,
    type: str,
    at: datetime,
    data: dict[str, Any],
    workflow_name: str = "",
    version_number: int | None = None,
    key: str | None = None,
    origin: dict[str, Any] | None = None,
) -> EventRecord:
    """Append an event that belongs to no run; one with a ``key`` that the tenant's log has already is that one.

    ``origin``: of a custom event, ``{id, source, subject}``.
    """
    event = EventRecord(
        tenant_id=tenant_id,
        seq=0,
        type=type,
        at=at,
        data=data,
        workflow_name=workflow_name,
        version_number=version_number,
        key=key,
        origin=origin,
    )
    try:
        with transaction.atomic(savepoint=key is not None):
            event.position = position()
            event.save(force_insert=True)
    except IntegrityError:
        known = None if key is None else EventRecord.objects.for_tenant(tenant_id).filter(key=key).first()
        if known is None:
            raise
        return known
    notifications().notify_events({tenant_id: ()})
    return event


def append_all_outside(tenant_id: UUID, events: Sequence[EventRecord]) -> None:
    """Append events of a tenant that belong to no run, in few statements; a key of theirs must be new."""
    if not events:
        return
    current = position()
    for event in events:
        event.tenant_id, event.seq, event.position = tenant_id, 0, current
    EventRecord.objects.bulk_create(events)
    notifications().notify_events({tenant_id: ()})


def position() -> int:
    """The position of what the current transaction writes."""
    if is_postgresql():
        return int(ask(f"SELECT {POSITION}", ()))
    return int(ask(_COUNT, ()))


def horizon() -> int:
    """The position up to which (without it) the log is complete: nothing will be added there any more."""
    if is_postgresql():
        return int(ask("SELECT pyflow_log_horizon()", ()))
    return (LogCounter.objects.values_list("value", flat=True).first() or 0) + 1


def continue_log() -> None:
    """Let positions continue those of the log, if this server counts from a lower number: it was restored elsewhere.

    Called by every ``migrate``. Changes a constant of the database: the caller owns its functions.
    """
    if not is_postgresql():
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(_AHEAD)
        ahead, base = cursor.fetchone()
        if ahead > 0:
            number = base + ahead
            cursor.execute(
                "CREATE OR REPLACE FUNCTION pyflow_log_base() RETURNS bigint LANGUAGE sql STABLE "
                f"AS 'SELECT {number:d}::bigint'"
            )


#: How far the newest event of any tenant is ahead of the next transaction, and what is added to its number now.
_AHEAD = f"""
SELECT coalesce(max(newest.position), 0) - pyflow_log_position(), pyflow_log_base()
FROM {Tenant._meta.db_table} tenant CROSS JOIN LATERAL (
    SELECT event.position FROM {EventRecord._meta.db_table} event WHERE event.tenant_id = tenant.id
    ORDER BY event.position DESC LIMIT 1
) newest
"""  # noqa: S608 - names of ours


def removed_to(tenant_id: UUID) -> int:
    """The greatest position of an event of the tenant that was removed; 0 if none was."""
    return LogState.objects.for_tenant(tenant_id).values_list("removed_to", flat=True).first() or 0


def remember_removal(tenant_id: UUID, events: models.QuerySet[EventRecord]) -> None:
    """Record that events are about to be removed, so that slow readers get an error for the ones they missed."""
    greatest = events.aggregate(position=models.Max("position"))["position"]
    if greatest is None:
        return
    LogState.objects.bulk_create([LogState(tenant_id=tenant_id)], ignore_conflicts=True)
    LogState.objects.for_tenant(tenant_id).filter(removed_to__lt=greatest).update(removed_to=greatest)
