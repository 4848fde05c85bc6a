"""A request whose transaction PostgreSQL ends for the sake of another one is done again, as a whole, once."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from django.db import connection, transaction
from django.http import HttpResponse

from runs.models import EventRecord
from runs.queue.leases import claim
from runs.storage import writer
from tenants import quotas
from tenants.models import AuditEntry, AuditHead, Tenant, UsageCounter
from tests.support import waiting
from tests.support.api import Api, assert_problem, read
from tests.support.factories import records
from tests.support.factories.rows import HELLO, a_test, make_api_key, make_run, make_workflow
from tests.support.servers.database_log import expect
from tests.support.servers.locks import waiters
from workflows.api import views
from workflows.models import Version, Workflow
from workflows.services import put_workflow

pytestmark = pytest.mark.fleet
OTHER = HELLO.replace("Greets", "Greets again")
PATH = "/api/v1/workflows/hello"
YAML = {"content_type": "application/yaml", "if_match": "*"}


@pytest.fixture
def api(tenant) -> Api:
    limits = {"runs_per_day": 10_000, "stored_bytes": 10**9}
    quotas.set_plan(tenant=tenant, plan="enterprise", overrides=limits, by=a_test(tenant))
    make_workflow(tenant)
    return Api(make_api_key(tenant)[1])


def in_a_circle(tenant: Tenant, ask: Callable[[], HttpResponse]) -> HttpResponse:
    """Have the database end the transaction of a request: it waits for one that waits for it.

    The other one has the audit and waits for the workflow; what the request waits for first keeps it from the audit
    until then. Each looks for a circle some time after it began to wait, and the other one hardly ever.
    """
    holding = Event()

    def other() -> None:
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute("SET LOCAL deadlock_timeout = '1h'")
                AuditHead.objects.for_tenant(tenant).select_for_update(no_key=True).get()
                holding.set()
                waiting.until(lambda: waiters() == 1, what="request that waits for a counter")
                Workflow.objects.for_tenant(tenant).select_for_update(no_key=True).get()
        finally:
            connection.close()

    def request() -> HttpResponse:
        try:
            return ask()
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        with transaction.atomic():
            list(UsageCounter.objects.for_tenant(tenant).select_for_update(no_key=True).order_by("pk"))
            circle = pool.submit(other)
            assert holding.wait(30)
            asked = pool.submit(request)
            waiting.until(lambda: waiters() == 2 or circle.done(), what="transaction that waits for the request")
        circle.result()
        return asked.result()


def deadlocks() -> int:
    """How many circles the database has found in this one's tables."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush()")
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        return int(cursor.fetchone()[0])


def test_a_request_that_is_part_of_a_deadlock_succeeds_all_the_same(tenant, api, caplog):
    expect("deadlock detected")
    before = deadlocks()
    response = in_a_circle(tenant, lambda: api.put(PATH, OTHER, **YAML))
    assert response.status_code == 200, read(response)
    waiting.until(lambda: deadlocks() == before + 1, what="a deadlock in the database's statistics")
    assert "is begun again: deadlock detected" in caplog.text
    assert Version.objects.for_tenant(tenant).count() == 2
    assert AuditEntry.objects.for_tenant(tenant).filter(action="workflow.updated").count() == 1


def raising(sqlstate: str, times: int, calls: list[str]) -> Callable[..., object]:
    """``put_workflow``, after which PostgreSQL raises an error for the first so many times."""

    def put(**values: object) -> object:
        saved = put_workflow(**values)  # type: ignore[arg-type] # as the view calls it
        calls.append("asked")
        transaction.on_commit(lambda: calls.append("committed"))
        if calls.count("asked") <= times:
            with connection.cursor() as cursor:
                cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'of a test' USING ERRCODE = '{sqlstate}'; END $$")
        return saved

    return put


@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "55P03", "23503"])
def test_what_is_done_after_the_commit_is_done_once(tenant, api, monkeypatch, sqlstate):
    calls: list[str] = []
    monkeypatch.setattr(views, "put_workflow", raising(sqlstate, 1, calls))
    assert api.put(PATH, OTHER, **YAML).status_code == 200
    assert calls == ["asked", "asked", "committed"]
    assert Version.objects.for_tenant(tenant).count() == 2


@pytest.mark.parametrize("sqlstate", ["40P01", "40001", "55P03"])
def test_the_second_time_the_client_is_asked_to_come_later(tenant, api, monkeypatch, sqlstate):
    calls: list[str] = []
    monkeypatch.setattr(views, "put_workflow", raising(sqlstate, 2, calls))
    response = api.put(PATH, OTHER, **YAML)
    assert_problem(response, 503, "database_unavailable")
    assert int(response.headers["Retry-After"]) >= 1
    assert calls == ["asked", "asked"]
    assert Version.objects.for_tenant(tenant).count() == 1


def test_a_reference_that_is_broken_twice_is_no_outage(tenant, api, monkeypatch, caplog):
    calls: list[str] = []
    monkeypatch.setattr(views, "put_workflow", raising("23503", 2, calls))
    response = api.put(PATH, OTHER, **YAML)
    assert_problem(response, 500, "internal_error")
    assert ("Retry-After" in response.headers, calls) == (False, ["asked", "asked"])
    assert "Traceback" in caplog.text


def test_other_errors_are_not_tried_again(tenant, api, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(views, "put_workflow", raising("22012", 1, calls))
    assert_problem(api.put(PATH, OTHER, **YAML), 500, "internal_error")
    assert calls == ["asked"]


def test_a_group_write_that_is_part_of_a_deadlock_is_stored_once(tenant, api, monkeypatch):
    """As the requests, whatever the number of runs in it."""
    run = make_run(tenant)
    [claimed] = claim("me", 1, run.pk)
    store, calls = writer.store, []

    def fail_first(writes: object) -> object:
        calls.append(1)
        with transaction.atomic():
            stored = store(writes)  # type: ignore[arg-type] # as the writer calls it
            if len(calls) == 1:
                with connection.cursor() as cursor:
                    cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'of a test' USING ERRCODE = '40P01'; END $$")
        return stored

    monkeypatch.setattr(writer, "store", fail_first)
    write = records.new_write(claimed)
    write.changes = {"losses": 1}
    assert writer.GroupWriter()._store([write]) == [(write, None)]
    run.refresh_from_db()
    assert (len(calls), run.losses) == (2, 1)
    assert EventRecord.objects.for_tenant(tenant).filter(run=run).count() == 1
