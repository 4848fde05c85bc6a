"""Queries that are put together once find what Django's own find."""

import threading
from uuid import UUID

import pytest
from django.db import connections

from plumbing.database.compiled import CompiledQuery
from runs.models import EventRecord, Run
from tests.support.factories.rows import make_run, make_tenant
from tests.support.invariants import made_of_rows

pytestmark = [pytest.mark.database, pytest.mark.django_db, made_of_rows]


def build(tenant_id: UUID, run_id: UUID):
    return Run.objects.for_tenant(tenant_id).with_names().filter(pk=run_id)


@pytest.fixture
def run():
    run = make_run(make_tenant())
    run.labels, run.outputs, run.error = {"who": "Ada"}, {"deep": [1, None, {"x": 2**70}]}, None
    run.save()
    return run


def values(row: Run) -> dict:
    return {field.attname: getattr(row, field.attname) for field in Run._meta.concrete_fields}


def test_a_row_is_that_of_the_query_set_with_what_is_selected_together_with_it(run, django_assert_num_queries):
    ask = CompiledQuery(build)
    ask(run.tenant_id, run.pk)
    with django_assert_num_queries(1):
        [found] = ask(run.tenant_id, run.pk)
        assert (found.workflow.name, found.version.number) == (run.workflow.name, run.version.number)
    assert values(found) == values(build(run.tenant_id, run.pk).get())
    assert not found._state.adding
    definition = run.version.definition
    with django_assert_num_queries(1):
        assert found.version.definition == definition  # deferred


def test_ids_are_those_of_the_call_and_not_of_the_one_before(run):
    ask, other = CompiledQuery(build), make_run(make_tenant())
    assert [row.pk for row in ask(run.tenant_id, run.pk)] == [run.pk]
    assert [row.pk for row in ask(other.tenant_id, other.pk)] == [other.pk]
    assert ask(other.tenant_id, run.pk) == []
    assert ask(run.tenant_id, other.pk) == []


def test_rows_come_in_the_order_and_number_of_the_query_set(run):
    for seq in (4, 2, 3):
        EventRecord.objects.create(tenant_id=run.tenant_id, run=run, seq=seq, type="x", at=run.created_at, position=1)
    ask = CompiledQuery(lambda run_id: EventRecord.objects.across_tenants().filter(run=run_id).order_by("-seq")[:2])
    assert [event.seq for event in ask(run.pk)] == [4, 3]


@pytest.mark.django_db(transaction=True)
def test_threads_share_it(run):
    ask, found = CompiledQuery(build), []

    def look() -> None:
        try:
            found.extend(row.labels["who"] for _ in range(20) for row in ask(run.tenant_id, run.pk))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["Ada"] * 80
