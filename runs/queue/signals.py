"""Signals that were delivered to runs and that no node has taken yet."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from plumbing.database.dialect import is_postgresql
from plumbing.database.statements import ask
from pyflow.core.suspension import Signal
from runs.models import PLATFORM, RunSignal


def waiting_signals(run_ids: Collection[UUID]) -> list[tuple[UUID, Signal]]:
    """The signals that were delivered to runs and not taken by a node yet, oldest first."""
    rows = RunSignal.objects.across_tenants().filter(run__in=run_ids, consumed=False).order_by("id")
    if is_postgresql() and not _any_signal(run_ids):  # hardly ever any
        return []
    return [(row.run_id, _signal(row)) for row in rows]


def _signal(row: RunSignal) -> Signal:
    # A decision of a sender who is not known (it is older than this column) is refused: nobody could check it.
    names = frozenset(row.sender or ())
    sender = None if PLATFORM in names else names
    return Signal(row.name, row.payload, row.dedupe_id, sender)


def _any_signal(run_ids: Collection[UUID]) -> bool:
    table = RunSignal._meta.db_table
    statement = f"SELECT EXISTS (SELECT FROM {table} WHERE NOT consumed AND run_id = ANY(%s))"  # noqa: S608 - ours
    return bool(ask(statement, [list(run_ids)]))
