"""Many rows in few statements: what the writer's transactions consist of.

A statement costs a round trip, a row next to nothing. On PostgreSQL a batch is therefore one statement, its rows handed
over as one JSON document a table. Elsewhere (SQLite has no round trips) Django's own queries do the same work.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from uuid import UUID

import orjson
from django.db import connection, models
from django.db.models import F

from plumbing.database.dialect import is_postgresql
from plumbing.database.statements import prepared
from pyflow.core.states import RunState
from runs.models import EventRecord, NodeItem, NodeRun, Run, RunLog
from runs.storage import log

#: What an executor changes of a run.
RUN_FIELDS = (
    "state",
    "outputs",
    "outputs_ref",
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
    "children_to_stop",
)
EVENT_FIELDS = ("id", "tenant_id", "run_id", "seq", "type", "node_id", "at", "data")
LOG_FIELDS = ("id", "tenant_id", "run_id", "seq", "node_id", "attempt", "item", "level", "at", "message")
NODE_FIELDS = (
    "state",
    "attempts",
    "round",
    "earlier_attempts",
    "output",
    "output_ref",
    "error",
    "reason",
    "tolerated",
    "started_at",
    "finished_at",
    "wake_at",
    "wait",
    "progress",
)
ITEM_FIELDS = (
    *("key", "state", "attempts", "round", "earlier_attempts", "output", "output_ref", "error"),
    *("started_at", "wake_at", "wait", "at"),
)

Row = dict[str, Any]


@dataclass(slots=True)
class Rows:
    """The rows that one transaction writes, of many runs.

    ``runs``: ``{id, epoch, events, value_bytes, changes}`` of each: under which epoch it is executed, how many events
    and bytes of large values it gains, and those of its ``RUN_FIELDS`` that change, or ``None``. Of ``events`` the
    ``seq`` counts from 1 for each run; they follow those that the run has. Of ``nodes`` and ``items`` the rows are
    added, or replaced by key.
    """

    runs: list[Row] = field(default_factory=list)
    events: list[Row] = field(default_factory=list)
    nodes: list[Row] = field(default_factory=list)
    items: list[Row] = field(default_factory=list)
    log: list[Row] = field(default_factory=list)


def store(rows: Rows) -> set[UUID]:
    """Write all of those runs that are still executed under their epochs; which these are. In one transaction.

    It waits for no other transaction: runs that another one has locked are left out, too.
    """
    if not is_postgresql():
        return _store_by_table(rows)
    parts = [(EventRecord, EVENT_FIELDS, rows.events, ""), (NodeRun, _NODE_COLUMNS, rows.nodes, _REPLACE_NODE)]
    parts += [(NodeItem, _ITEM_COLUMNS, rows.items, _REPLACE_ITEM), (RunLog, LOG_FIELDS, rows.log, "")]
    written = [part for part in parts if part[2]]
    changing = any(row["changes"] is not None for row in rows.runs)
    statement = _statement(changing, tuple((model, columns, keys) for model, columns, _, keys in written))
    documents = [document(rows.runs, ("id", "epoch", "events", "value_bytes", "changes"))]
    documents += [document(given, columns) for _, columns, given, _ in written]
    with prepared() as cursor:
        cursor.execute(statement, documents)
        return {run_id for (run_id,) in cursor.fetchall()}


_NODE_COLUMNS = ("id", "tenant_id", "run_id", "node_id", *NODE_FIELDS)
_ITEM_COLUMNS = ("id", "tenant_id", "run_id", "node_id", "index", *ITEM_FIELDS)
_REPLACE_NODE, _REPLACE_ITEM = "run_id, node_id", "run_id, node_id, index"


@cache
def _statement(changing: bool, written: tuple[tuple[type[models.Model], tuple[str, ...], str], ...]) -> str:
    """Locks the runs, then writes what belongs to those whose epoch holds. Every value is in a JSON parameter."""
    run, fields = _column(Run._meta.db_table), ", ".join(RUN_FIELDS)
    # Names of tables, columns and types are the models' own.
    steps = f"""
        given AS MATERIALIZED (
            SELECT * FROM jsonb_to_recordset(%s::jsonb)
            AS given(id uuid, epoch integer, events integer, value_bytes bigint, changes jsonb)
        ), held AS MATERIALIZED (
            SELECT run.id, run.event_seq, run.event_seq + given.events AS new_seq,
                GREATEST(run.log_position, {log.POSITION}) AS position,
                run.value_bytes + given.value_bytes AS value_bytes, given.changes
            FROM {run} run JOIN given ON run.id = given.id AND run.epoch = given.epoch
            WHERE run.state = '{RunState.RUNNING.value}' ORDER BY run.id FOR NO KEY UPDATE OF run SKIP LOCKED
        ), moved AS (
            UPDATE {run} run SET event_seq = held.new_seq, log_position = held.position, value_bytes = held.value_bytes
            FROM held WHERE run.id = held.id AND held.changes IS NULL
        )"""  # noqa: S608 - see above
    if changing:
        steps += f""", changed AS (
            UPDATE {run} run
                SET event_seq = held.new_seq, log_position = held.position, value_bytes = held.value_bytes,
                ({fields}) = (SELECT {fields} FROM jsonb_populate_record(run, held.changes))
            FROM held WHERE run.id = held.id AND held.changes IS NOT NULL
        )"""  # noqa: S608 - see above
    for number, (model, columns, keys) in enumerate(written):
        names = ", ".join(map(_column, columns))
        given = {name: f"new.{_column(name)}" for name in columns}
        if model is EventRecord:
            given["seq"] = "held.event_seq + new.seq"
            given["position"] = "held.position"
            names += ", position"
        values = ", ".join(given.values())
        replaced = [_column(name) for name in columns if name not in {"id", "tenant_id", *keys.split(", ")}]
        replacing = ", ".join(f"{name} = EXCLUDED.{name}" for name in replaced)
        steps += f""", written{number} AS (
            INSERT INTO {_column(model._meta.db_table)} ({names}) SELECT {values}
            FROM jsonb_to_recordset(%s::jsonb) AS new({_record(model, columns)}) JOIN held ON held.id = new.run_id
            {f"ON CONFLICT ({keys}) DO UPDATE SET {replacing}" if keys else ""}
        )"""  # noqa: S608 - see above
    return f"WITH {steps} SELECT id FROM held"  # noqa: S608 - see above


@cache
def inserting(model: type[models.Model], fields: tuple[str, ...], position: str) -> str:
    """The statement (PostgreSQL) that adds the rows of a ``document``, which is its only parameter.

    The column named by ``position`` gets that of the log.
    """
    names = ", ".join(map(_column, fields))
    return (
        f"INSERT INTO {_column(model._meta.db_table)} ({names}, {position}) "  # noqa: S608 - names of the models
        f"SELECT {names}, {log.POSITION} FROM jsonb_to_recordset(%s::jsonb) AS new({_record(model, fields)})"
    )


def _store_by_table(rows: Rows) -> set[UUID]:
    epochs = {row["id"]: row["epoch"] for row in rows.runs}
    runs = Run.objects.across_tenants().filter(pk__in=list(epochs), state=RunState.RUNNING.value)
    locked = runs.select_for_update(no_key=True).order_by("pk").values_list("id", "epoch", "event_seq")
    seqs = {run_id: seq for run_id, epoch, seq in locked if epoch == epochs[run_id]}
    position = log.position() if seqs else 0
    for row in rows.runs:
        if row["id"] in seqs:
            gained = {
                "event_seq": seqs[row["id"]] + row["events"],
                "log_position": position,
                "value_bytes": F("value_bytes") + row["value_bytes"],
            }
            changes = gained | (row["changes"] or {})
            Run.objects.across_tenants().filter(pk=row["id"]).update(**changes)
    EventRecord.objects.bulk_create(
        [
            EventRecord(**row | {"seq": seqs[row["run_id"]] + row["seq"], "position": position})
            for row in rows.events
            if row["run_id"] in seqs
        ]
    )
    NodeRun.objects.bulk_create(
        [NodeRun(**row) for row in rows.nodes if row["run_id"] in seqs],
        update_conflicts=True,
        unique_fields=("run", "node_id"),
        update_fields=NODE_FIELDS,
    )
    NodeItem.objects.bulk_create(
        [NodeItem(**row) for row in rows.items if row["run_id"] in seqs],
        update_conflicts=True,
        unique_fields=("run", "node_id", "index"),
        update_fields=ITEM_FIELDS,
    )
    RunLog.objects.bulk_create([RunLog(**row) for row in rows.log if row["run_id"] in seqs])
    return set(seqs)


@cache
def _record(model: type[models.Model], fields: tuple[str, ...]) -> str:
    """The fields as columns with their types: ``id uuid, state varchar(16)``."""
    types = {field.attname: field.db_type(connection) for field in model._meta.concrete_fields}
    return ", ".join(f"{_column(name)} {types[name]}" for name in fields)


def _column(name: str) -> str:
    return connection.ops.quote_name(name)


def document(rows: Iterable[Row], fields: tuple[str, ...]) -> str:
    """Rows as one JSON text, of these fields each."""
    values = [{name: row[name] for name in fields} for row in rows]
    try:
        return orjson.dumps(values).decode()
    except TypeError:  # integers beyond 64 bits, which JSON and PostgreSQL have
        return json.dumps(values, default=_as_text, ensure_ascii=False)


def _as_text(value: Any) -> str:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
