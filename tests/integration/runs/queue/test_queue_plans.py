"""What waits costs nothing but its rows: how claims and sweeps find theirs, as PostgreSQL plans it."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from runs.models import Run
from runs.queue.leases import QUEUED_AT_ONCE, claim, renew, unclaimed_queues
from runs.services.end import end_unstarted
from runs.services.stop_children import stop_orphans
from tests.support.factories.rows import make_run, make_tenant
from tests.support.invariants import made_of_rows

pytestmark = [pytest.mark.fleet, made_of_rows]
WAITING = 20_000


def multiply(run: Run, count: int, **changed: str) -> None:
    """Add copies of a run in one statement, with columns changed to what SQL expressions of `number` give."""
    table = Run._meta.db_table
    columns = [field.column for field in Run._meta.concrete_fields]
    changed = {"id": "gen_random_uuid()", **changed}
    values = ", ".join(changed.get(column, f'"{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {values} "
            f"FROM {table}, generate_series(1, %s) AS number WHERE id = %s",
            [count, run.pk],
        )


def analyze() -> None:
    """Let PostgreSQL know what is there."""
    with connection.cursor() as cursor:
        cursor.execute(f"ANALYZE {Run._meta.db_table}")


@pytest.fixture
def crowd(tenant) -> Run:
    """As many waiting and as many finished runs, and one that is queued."""
    run = make_run(tenant)
    waits = "mod(number, 2) = 0"
    multiply(
        run,
        2 * WAITING,
        state=f"CASE WHEN {waits} THEN 'waiting' ELSE 'succeeded' END",
        wake_at=f"CASE WHEN {waits} THEN now() + interval '1 day' END",
    )
    analyze()
    return run


def plans(queries: CaptureQueriesContext, how: str = "") -> Iterator[dict]:
    """The plan of each query about runs that looks for something; with ``ANALYZE, `` what it came to."""
    for query in queries.captured_queries:
        if query["sql"].lstrip().startswith(("SELECT", "WITH")) and Run._meta.db_table in query["sql"]:
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN ({how}FORMAT JSON) {query['sql']}")
                [plan] = cursor.fetchone()
            yield (json.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]


def steps(plan: dict) -> Iterator[dict]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from steps(inner)


def rows_read(queries: CaptureQueriesContext) -> float:
    """How many rows of the table of runs the queries read, each asked once more."""
    return sum(
        step["Actual Rows"] * step["Actual Loops"]
        for plan in plans(queries, "ANALYZE, ")
        for step in steps(plan)
        if step.get("Relation Name") == Run._meta.db_table
    )


def change_the_crowd(**values: object) -> None:
    """Let all that waited be something else, and PostgreSQL know of it."""
    Run.objects.across_tenants().filter(state="waiting").update(**values)
    analyze()


def test_a_claim_reads_no_more_of_a_long_queue_than_it_takes(crowd: Run):
    change_the_crowd(state="queued", wake_at=None)
    other = make_run(make_tenant())
    with CaptureQueriesContext(connection) as queries:
        taken = claim("me", 10, queues=("",))
    assert other.pk in {claimed.run_id for claimed in taken}
    assert len(taken) == 10
    assert rows_read(queries) < 200


def test_a_claim_reads_no_more_of_a_queue_of_which_the_statistics_say_nothing(crowd: Run):
    """PostgreSQL counts again when a tenth of the table is new."""
    change_the_crowd(state="queued", wake_at=None)
    multiply(make_run(make_tenant()), WAITING // 10)
    with CaptureQueriesContext(connection) as queries:
        assert len(claim("me", 10, queues=("",))) == 10
    assert rows_read(queries) < 200


def test_a_claim_reads_no_more_of_the_timers_that_are_due_than_it_queues(crowd: Run):
    change_the_crowd(wake_at=timezone.now() - timedelta(hours=1))
    with CaptureQueriesContext(connection) as queries:
        taken = claim("me", 10, queues=("",))
    assert len(taken) == 10
    assert taken.overdue_left
    assert rows_read(queries) < QUEUED_AT_ONCE + 200


def test_looking_for_runs_that_were_not_started_in_time_reads_only_those(crowd: Run):
    tomorrow, yesterday = (timezone.now() + timedelta(days=days) for days in (1, -1))
    change_the_crowd(state="queued", wake_at=None, queue_deadline=tomorrow)
    Run.objects.across_tenants().filter(pk=crowd.pk).update(queue_deadline=yesterday)
    with CaptureQueriesContext(connection) as queries:
        assert end_unstarted() == 1
        assert end_unstarted() == 0
    assert "run_deadlines" in {step.get("Index Name") for plan in plans(queries) for step in steps(plan)}
    assert rows_read(queries) < 20


def test_looking_for_children_of_runs_that_have_ended_reads_only_those(crowd: Run):
    Run.objects.across_tenants().filter(pk=crowd.pk).update(state="cancelled", children_to_stop=True)
    multiply(
        crowd, 2, parent_id=f"'{crowd.pk}'", on_parent_cancel="'terminate'", state="'waiting'", children_to_stop="FALSE"
    )
    with CaptureQueriesContext(connection) as queries:
        assert stop_orphans() == 2
        assert stop_orphans() == 0
    assert "run_orphans" in {step.get("Index Name") for plan in plans(queries) for step in steps(plan)}
    assert rows_read(queries) < 50


def test_what_is_executed_is_renewed_without_a_look_at_what_waits(crowd: Run):
    [taken] = claim("me", 100, queues=("",))
    with CaptureQueriesContext(connection) as queries:
        assert renew("me", [(crowd.pk, taken.epoch)]) == {crowd.pk}
    assert rows_read(queries) <= 1


def test_neither_claims_nor_sweeps_look_at_what_waits(crowd: Run):
    with CaptureQueriesContext(connection) as queries:
        assert end_unstarted() == 0
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
