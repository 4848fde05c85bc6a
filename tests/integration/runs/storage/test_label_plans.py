"""Runs with a label are found by the index of labels, however many runs there are, as PostgreSQL plans it."""

import json
from collections.abc import Iterator

import pytest
from django.db import connection

from runs.models import Run
from tests.support.factories.rows import make_run
from tests.support.invariants import made_of_rows

pytestmark = [pytest.mark.fleet, made_of_rows]
OTHERS = 50_000


@pytest.fixture
def rare(tenant) -> Run:
    """The run with a rare label among very many with a common one, or none."""
    run = make_run(tenant)
    table = Run._meta.db_table
    columns = [field.column for field in Run._meta.concrete_fields]
    labels = """CASE WHEN mod(number, 2) = 0 THEN '{"team": "a", "customer": "1"}' ELSE '{}' END::jsonb"""
    replaced = {"id": "gen_random_uuid()", "labels": labels}
    values = ", ".join(replaced.get(column, f'"{column}"') for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {values} "
            f"FROM {table}, generate_series(1, %s) AS number WHERE id = %s",
            [OTHERS, run.pk],
        )
        Run.objects.for_tenant(tenant).filter(pk=run.pk).update(labels={"team": "a", "customer": "2"})
        cursor.execute(f"ANALYZE {table}")
    return run


def steps(plan: dict) -> Iterator[dict]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from steps(inner)


def test_a_rare_label_is_looked_up(rare: Run):
    rows = Run.objects.for_tenant(rare.tenant_id).labelled("team", "a").labelled("customer", "2").with_names()
    assert [row.pk for row in rows] == [rare.pk]
    plan = json.loads(rows.order_by("-created_at", "-id")[:51].explain(format="JSON"))[0]["Plan"]
    found = list(steps(plan))
    assert "run_labels" in {step.get("Index Name") for step in found}
    assert [
        step for step in found if step["Node Type"] == "Seq Scan" and step["Relation Name"] == Run._meta.db_table
    ] == []


def test_runs_without_labels_are_not_in_it(rare: Run):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_expr(indpred, indrelid) FROM pg_index WHERE indexrelid = 'run_labels'::regclass")
        assert cursor.fetchone() == ("(labels <> '{}'::jsonb)",)
    assert not Run.objects.for_tenant(rare.tenant_id).labelled("customer", "").exists()
