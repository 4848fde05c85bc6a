"""Many rows in few statements: what the writer's transactions consist of.

A statement costs a round trip and its planning, a row next to nothing. On PostgreSQL a batch is therefore one statement
a table, its rows handed over as one JSON document. Elsewhere (SQLite has no round trips) Django's own queries do the
same work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, models

from pyflow.core.states import RunState
from runs.models import NodeItem, NodeRun, Run, RunEvent, RunLog

#: What an executor changes of a run.
RUN_FIELDS = (
    "state",
    "outputs",
    "outputs_ref",
    "value_bytes",
    "error",
    "compensation",
    "started_at",
    "finished_at",
    "wake_at",
    "owner",
    "lease_until",
    "losses",
    "secrets_used",
    "log_lines",
    "log_characters",
)
#: Set at the end, once: not worth being read with every batch.
_LARGE = frozenset({"outputs", "outputs_ref", "error"})
_PLAIN_FIELDS = tuple(name for name in RUN_FIELDS if name not in _LARGE)
EVENT_FIELDS = ("id", "tenant_id", "run_id", "seq", "type", "node_id", "at", "data")
LOG_FIELDS = ("id", "tenant_id", "run_id", "seq", "node_id", "attempt", "item", "level", "at", "message")
NODE_FIELDS = (
    "state",
    "attempts",
    "output",
    "output_ref",
    "error",
    "reason",
    "tolerated",
    "started_at",
    "finished_at",
    "wake_at",
    "wait",
)
ITEM_FIELDS = ("key", "state", "attempts", "output", "output_ref", "error", "at")

Row = dict[str, Any]


def held(epochs: Mapping[UUID, int]) -> dict[UUID, Row]:
    """Lock the runs that are still executed under the given epochs; their rows (``event_seq`` and more) by id.

    In one order everywhere, so that two transactions never wait for each other's rows.
    """
    runs = Run.objects.across_tenants().filter(pk__in=list(epochs), state=RunState.RUNNING.value)
    rows = runs.select_for_update(no_key=True).order_by("pk").values("id", "epoch", "event_seq", *_PLAIN_FIELDS)
    return {row["id"]: row for row in rows if row["epoch"] == epochs[row["id"]]}


def advance(rows: Sequence[Row], changed: Sequence[Row]) -> None:
    """Store the ``event_seq`` of locked runs, and all ``RUN_FIELDS`` of those in ``changed``."""
    if connection.vendor == "postgresql":
        if rows:
            _update_run(rows, ("event_seq",))
        if changed:
            _update_run(changed, ("event_seq", *RUN_FIELDS))
        return
    for row in rows:
        Run.objects.across_tenants().filter(pk=row["id"]).update(event_seq=row["event_seq"])
    for row in changed:
        values = {name: row[name] for name in ("event_seq", *RUN_FIELDS)}
        Run.objects.across_tenants().filter(pk=row["id"]).update(**values)


def insert_events(rows: Sequence[Row]) -> None:
    """Add events."""
    if connection.vendor == "postgresql":
        _insert(RunEvent, rows, EVENT_FIELDS)
    else:
        RunEvent.objects.bulk_create([RunEvent(**row) for row in rows])


def insert_log(rows: Sequence[Row]) -> None:
    """Add lines of logs."""
    if connection.vendor == "postgresql":
        _insert(RunLog, rows, LOG_FIELDS)
    else:
        RunLog.objects.bulk_create([RunLog(**row) for row in rows])


def upsert_nodes(rows: Sequence[Row]) -> None:
    """Add node runs, or replace what is on record of them."""
    if connection.vendor == "postgresql":
        _upsert(NodeRun, rows, ("run_id", "node_id"), NODE_FIELDS)
    else:
        NodeRun.objects.bulk_create(
            [NodeRun(**row) for row in rows],
            update_conflicts=True,
            unique_fields=("run", "node_id"),
            update_fields=NODE_FIELDS,
        )


def upsert_items(rows: Sequence[Row]) -> None:
    """Add items of fan-outs, or replace what is on record of them."""
    if connection.vendor == "postgresql":
        _upsert(NodeItem, rows, ("run_id", "node_id", "index"), ITEM_FIELDS)
    else:
        NodeItem.objects.bulk_create(
            [NodeItem(**row) for row in rows],
            update_conflicts=True,
            unique_fields=("run", "node_id", "index"),
            update_fields=ITEM_FIELDS,
        )


def _upsert(model: type[models.Model], rows: Sequence[Row], keys: tuple[str, ...], fields: tuple[str, ...]) -> None:
    replaced = ", ".join(f"{_column(name)} = EXCLUDED.{_column(name)}" for name in fields)
    conflict = f"ON CONFLICT ({', '.join(map(_column, keys))}) DO UPDATE SET {replaced}"
    _insert(model, rows, ("id", "tenant_id", *keys, *fields), conflict)


def _insert(model: type[models.Model], rows: Sequence[Row], fields: tuple[str, ...], conflict: str = "") -> None:
    columns = ", ".join(map(_column, fields))
    given = _record(model, fields)
    # Names of tables, columns and types are the models', values are one parameter.
    statement = (
        f"INSERT INTO {_column(model._meta.db_table)} ({columns}) "  # noqa: S608 - see above
        f"SELECT {columns} FROM jsonb_to_recordset(%s::jsonb) AS given({given}) {conflict}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [_document(rows, fields)])


def _update_run(rows: Sequence[Row], fields: tuple[str, ...]) -> None:
    assigned = ", ".join(f"{name} = given.{name}" for name in fields)
    given = _record(Run, ("id", *fields))
    statement = (
        f"UPDATE {_column(Run._meta.db_table)} AS run SET {assigned} "  # noqa: S608 - names of ours, one parameter
        f"FROM jsonb_to_recordset(%s::jsonb) AS given({given}) WHERE run.id = given.id"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [_document(rows, ("id", *fields))])


@cache
def _record(model: type[models.Model], fields: tuple[str, ...]) -> str:
    """The fields as columns with their types: ``id uuid, state varchar(16)``."""
    types = {field.attname: field.db_type(connection) for field in model._meta.concrete_fields}
    return ", ".join(f"{_column(name)} {types[name]}" for name in fields)


def _column(name: str) -> str:
    return connection.ops.quote_name(name)


def _document(rows: Iterable[Row], fields: tuple[str, ...]) -> str:
    values = [{name: row[name] for name in fields} for row in rows]
    try:
        return orjson.dumps(values).decode()
    except TypeError:  # integers beyond 64 bits, which JSON and PostgreSQL have
        return json.dumps(values, default=_as_text, ensure_ascii=False)


def _as_text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
