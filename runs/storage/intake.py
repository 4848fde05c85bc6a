"""Stores queued runs, each with its first event, in as few statements as the database allows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate

from django.db import transaction

from plumbing.database.dialect import is_postgresql
from plumbing.database.statements import prepared
from pyflow.core.events import EventType
from pyflow.core.ids import new_uuid
from runs.models import EventRecord, Run
from runs.notify.current import notifications
from runs.storage import batch_sql, log, values
from runs.storage.values import Owner
from tenants.errors import QuotaExceededError
from tenants.plans import Quota
from tenants.quotas import Consumption, consume


def add(run: Run) -> None:
    """Store one queued run and notify executors. One statement on PostgreSQL; raises ``IntegrityError``."""
    _outsource(run)
    event = _queued(run)
    with transaction.atomic(savepoint=False):
        if is_postgresql():
            _add_at_once([run], [event])
        else:
            run.log_position = log.position()
            run.save(force_insert=True)
            EventRecord(**event, position=run.log_position).save(force_insert=True)
            _count([run])
    notifications().notify_queued(run.queue)
    notifications().notify_events({run.tenant_id: [run.pk]})


def add_all(runs: Sequence[Run]) -> None:
    """Store many queued runs in as few statements and notify once; none if it raises ``IntegrityError``."""
    events = [_queued(run) for run in runs]
    for run in runs:
        _outsource(run)
    # By their keys: two batches that share some never wait for each other's rows.
    runs = sorted(runs, key=lambda run: run.dedupe_key or "")
    with transaction.atomic():
        if is_postgresql() and runs:
            _add_at_once(runs, events)
        else:
            position = log.position()
            for run in runs:
                run.log_position = position
            Run.objects.bulk_create(runs)
            EventRecord.objects.bulk_create([EventRecord(**event, position=position) for event in events])
            _count(runs)
    for queue in {run.queue for run in runs}:
        notifications().notify_queued(queue)
    if runs:
        notifications().notify_events({runs[0].tenant_id: [run.pk for run in runs]})


def _add_at_once(runs: Sequence[Run], events: Sequence[batch_sql.Row]) -> None:
    used = Consumption(runs[0].tenant_id, _amounts(runs))
    rows = [run.__dict__ for run in runs]
    fields = tuple(name for name in _RUN_COLUMNS if any(row[name] is not None for row in rows))
    documents = [batch_sql.document(rows, fields), batch_sql.document(events, batch_sql.EVENT_FIELDS)]
    with prepared() as cursor:
        cursor.execute(_adding(fields, used.statement), (*documents, *used.parameters))
        used.settle(name for (name,) in cursor.fetchall())
    for added in runs:
        added._state.adding = False
        # The database has set it: it is read when it is asked for, and not written over.
        added.__dict__.pop("log_position", None)


@lru_cache(maxsize=64)
def _adding(fields: tuple[str, ...], counting: str) -> str:
    run = batch_sql.inserting(Run, fields, "log_position")
    event = batch_sql.inserting(EventRecord, batch_sql.EVENT_FIELDS, "position")
    return f"WITH run AS ({run}), event AS ({event}) {counting}"


_RUN_COLUMNS = tuple(name for field in Run._meta.local_concrete_fields if (name := field.attname) != "log_position")


def fitting(runs: Sequence[Run], refusal: QuotaExceededError) -> int:
    """Number of the first runs that fit into the quota that had no room for all."""
    by_bytes = refusal.quota == Quota.STORED_BYTES
    sizes = (run.stored_bytes if by_bytes else 1 for run in runs)
    room = refusal.limit - refusal.used
    return sum(total <= room for total in accumulate(sizes))


def _count(runs: Sequence[Run]) -> None:
    """Count them as used. Last, because the tenant's other starts wait from here to the commit."""
    if not runs:
        return
    consume(tenant_id=runs[0].tenant_id, amounts=_amounts(runs))


def _amounts(runs: Sequence[Run]) -> dict[Quota, int]:
    return {Quota.RUNS_PER_DAY: len(runs), Quota.STORED_BYTES: sum(run.stored_bytes for run in runs)}


def _outsource(run: Run) -> None:
    """Store an input that is large apart, before there is a row that refers to it."""
    if run.input_ref is None:
        _, reference = values.outsource(Owner(run.tenant_id, run.pk), run.input)
        if reference is not None:
            run.input, run.input_ref = {}, reference.as_dict()


def _queued(run: Run) -> batch_sql.Row:
    run.event_seq = 1
    return {
        "id": new_uuid(),
        "tenant_id": run.tenant_id,
        "run_id": run.pk,
        "seq": 1,
        "type": str(EventType.RUN_QUEUED),
        "node_id": "",
        "at": run.created_at,
        "data": {"state": run.state},
    }
