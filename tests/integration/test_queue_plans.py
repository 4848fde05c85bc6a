"""What waits costs nothing but its rows: how claims and sweeps find theirs, as PostgreSQL plans it."""

import json
from collections.abc import Iterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from runs.leases import claim, unclaimed_queues
from runs.models import Run
from tests.support.factories import make_run, make_tenant

pytestmark = pytest.mark.fleet
WAITING = 200_000


@pytest.fixture
def crowd(tenant) -> Run:
    """As many waiting and as many finished runs, in one statement, and one that is queued."""
    run = make_run(tenant)
    table = Run._meta.db_table
    columns = [field.column for field in Run._meta.concrete_fields]
    replaced = {
        "id": "gen_random_uuid()",
        "state": "CASE WHEN mod(number, 2) = 0 THEN 'waiting' ELSE 'succeeded' END",
        "wake_at": "CASE WHEN mod(number, 2) = 0 THEN now() + interval '1 day' END",
    }
    values = ", ".join(replaced.get(column, f'"{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {values} "
            f"FROM {table}, generate_series(1, %s) AS number WHERE id = %s",
            [2 * WAITING, run.pk],
        )
        cursor.execute(f"ANALYZE {table}")
    return run


def plans(queries: CaptureQueriesContext) -> Iterator[dict]:
    """The plan of each query about runs that looks for something."""
    for query in queries.captured_queries:
        if query["sql"].lstrip().startswith(("SELECT", "WITH")) and Run._meta.db_table in query["sql"]:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (FORMAT JSON) {query['sql']}")
                [plan] = cursor.fetchone()
            yield (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]


def steps(plan: dict) -> Iterator[dict]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from steps(inner)


def test_a_claim_reads_no_more_of_a_long_queue_than_it_takes(crowd: Run):
    Run.objects.across_tenants().filter(state="waiting").update(state="queued", wake_at=None)
    other = make_run(make_tenant())
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Run._meta.db_table}")
    with CaptureQueriesContext(connection) as queries:
        taken = claim("me", 10, queues=("",))
    assert other.pk in {claimed.run_id for claimed in taken}
    assert len(taken) == 10

    read = 0
    for query in queries.captured_queries:
        if query["sql"].lstrip().startswith(("SELECT", "WITH")) and Run._meta.db_table in query["sql"]:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}")
                [plan] = cursor.fetchone()
            found = (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
            read += sum(
                step["Actual Rows"] * step["Actual Loops"]
                for step in steps(found)
                if step.get("Relation Name") == Run._meta.db_table
            )
    assert read < 200


def test_neither_claims_nor_sweeps_look_at_what_waits(crowd: Run):
    with CaptureQueriesContext(connection) as queries:
        assert unclaimed_queues() == {""}
        [taken] = claim("me", 100, queues=("",))
        assert taken.run_id == crowd.pk
        assert claim("me", 100, queues=("",)) == []

    looked = [step for plan in plans(queries) for step in steps(plan)]
    assert {"run_queue", "run_leases", "run_timers"} <= {step.get("Index Name") for step in looked}
    scans = [step for step in looked if step["Node Type"] == "Seq Scan" and step["Relation Name"] == Run._meta.db_table]
    assert scans == []
    # No step expects to read more than a few of the rows.
    assert max(step["Plan Rows"] for step in looked) < WAITING / 100
