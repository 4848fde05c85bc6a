"""Schedules of a fleet on PostgreSQL: how late slots start their runs, and what idle schedules cost.

Rows are copies of one schedule, made by SQL, because 100,000 publications would be measured with them. Beat looks at
them, as in production; a worker executes the runs meanwhile.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from benchmarks.load import Connection
from benchmarks.measure import Row
from benchmarks.service import PyFlow, Service
from benchmarks.workload import Sizes

#: Schedules that are due in the same second, due within a minute, and not due.
AT_ONCE, IN_A_MINUTE, IDLE = 100, 10_000, 100_000
#: Seconds until the first one is due, once the rows are there, and from the last slot until all runs have begun.
LEAD, PATIENCE = 3.0, 120.0
_DOCUMENT = {
    "version": 2,
    "name": "scheduled",
    "triggers": [{"id": "one", "type": "schedule", "config": {"at": "2100-01-01T00:00:00Z", "overlap": "allow_all"}}],
    "nodes": [{"id": "n", "type": "transform", "config": {"input": 1, "expression": "$"}}],
}
_COPY = """
    INSERT INTO triggers_schedule (id, tenant_id, workflow_id, trigger_id, version_number, config, declared, anchor,
        next_at, due_at, zone_rules, pause_reason, problem, failures, created_at, updated_at, revision)
    SELECT gen_random_uuid(), tenant_id, workflow_id, %s || number, version_number,
        jsonb_build_object('at', slot, 'overlap', 'allow_all'), true, anchor, slot, slot, '', '', '', 0, now(), now(), 0
    FROM triggers_schedule, LATERAL (
        SELECT number, date_trunc('milliseconds', now() + make_interval(secs => %s + random() * %s)) AS slot
        FROM generate_series(1, %s) AS number
    ) AS slots
    WHERE trigger_id = 'one'
"""
#: Late is by how much the run was committed, or begun by a worker, after the moment of its slot.
_LATE = """
    SELECT count(started), percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY committed),
        percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY started)
    FROM (
        SELECT 1000 * extract(epoch FROM run.started_at - fire.scheduled_for)::float8 AS started,
            1000 * extract(epoch FROM pg_xact_commit_timestamp(event.xmin) - fire.scheduled_for)::float8 AS committed
        FROM triggers_schedulefire fire JOIN runs_run run ON run.id = fire.run_id
        JOIN runs_runevent event ON event.run_id = run.id AND event.seq = 1
        JOIN triggers_schedule schedule ON schedule.id = fire.schedule_id
        WHERE schedule.trigger_id LIKE %s
    ) AS fires
"""
_PLAN = """
    EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF)
    SELECT schedule.due_at, schedule.id FROM triggers_schedule schedule
    JOIN tenants_tenant tenant ON tenant.id = schedule.tenant_id
    WHERE schedule.due_at <= now() AND tenant.suspended_at IS NULL ORDER BY schedule.due_at, schedule.id LIMIT 200
"""


def measure(runs: int) -> Iterator[Row]:
    """Lateness with 100 due in one second, alone and beside 100,000 idle ones, and with 10,000 due in a minute."""
    with PyFlow(Sizes()).running() as service, psycopg.connect(_database(service), autocommit=True) as database:
        _publish(service)
        yield from _late("100 due in one second", [_lateness(database, AT_ONCE, 0.0) for _ in range(runs)])
        yield from _late("10,000 due in a minute", [_lateness(database, IN_A_MINUTE, 60.0)])
        database.execute(_COPY, ("idle-", 86_400.0, 86_400.0, IDLE))
        database.execute("VACUUM ANALYZE triggers_schedule")
        named = "100 due in one second beside 100,000 idle"
        yield from _late(named, [_lateness(database, AT_ONCE, 0.0) for _ in range(runs)])
        print("plan of the look for due schedules, 100,000 idle:")
        for (line,) in database.execute(_PLAN).fetchall():
            print(f"    {line}")


def _database(service: object) -> str:
    assert isinstance(service, Service)
    return service.database


@dataclass(frozen=True, slots=True)
class _Late:
    """Milliseconds by which runs were committed, and begun, after their slots: the median and the 99th percentile."""

    committed: tuple[float, float]
    begun: tuple[float, float]


def _late(name: str, taken: list[_Late]) -> Iterator[Row]:
    yield Row(f"{name}: run committed, median late", "ms", [late.committed[0] for late in taken])
    yield Row(f"{name}: run committed, p99 late", "ms", [late.committed[1] for late in taken])
    yield Row(f"{name}: run begun, p99 late", "ms", [late.begun[1] for late in taken])


def _lateness(database: psycopg.Connection, count: int, within: float) -> _Late:
    """Have ``count`` schedules become due ``within`` seconds, and wait until the runs of all have begun."""
    prefix = f"b{time.time_ns()}-"
    database.execute(_COPY, (prefix, LEAD, within, count))
    until = time.monotonic() + LEAD + within + PATIENCE
    while time.monotonic() < until:
        time.sleep(1)
        row = database.execute(_LATE, (f"{prefix}%",)).fetchone()
        if row is not None and row[0] == count:
            return _Late(tuple(row[1]), tuple(row[2]))
    raise RuntimeError(f"{PATIENCE:.0f} s after the last slot, runs of {count} schedules have not begun")


def _publish(service: object) -> None:
    assert isinstance(service, Service)
    connection = Connection(service.url)
    try:
        body = json.dumps(_DOCUMENT).encode()
        connection.send("/api/v1/workflows/scheduled", body, service.headers, method="PUT")
    finally:
        connection.close()
