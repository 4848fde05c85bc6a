"""Many requests at once against one quota: exactly as many get through as there is room for."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.http import HttpResponse

from runs.models import EventRecord, Run
from tenants import quotas
from tenants.access import Actor
from tenants.errors import QuotaExceededError
from tenants.models import Tenant, UsageCounter
from tenants.plans import Quota
from tests.support.api import YAML, Api, read
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_api_key, make_run, make_workflow
from workflows.models import Workflow

THREADS = 50
ADA = {"input": {"who": "Ada"}}
pytestmark = pytest.mark.database


def give(tenant: Tenant, **limits: int | None) -> None:
    quotas.set_plan(tenant=tenant, plan="enterprise", overrides=limits, by=Actor.system(tenant.pk, "a test"))


def at_once(act: Callable[[int], HttpResponse], count: int = THREADS) -> list[HttpResponse]:
    together = threading.Barrier(count)

    def begin(number: int) -> HttpResponse:
        together.wait(30)
        try:
            return act(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(begin, range(count)))


def used(tenant: Tenant, quota: Quota) -> int:
    return sum(UsageCounter.objects.for_tenant(tenant).filter(name=quota.value).values_list("count", flat=True))


@pytest.fixture
def api(tenant: Tenant) -> Api:
    return Api(make_api_key(tenant)[1])


@pytest.mark.parametrize("how", ["runs_per_day", "stored_bytes"])
def test_as_many_starts_get_through_as_the_limit_says(tenant: Tenant, api: Api, how: str):
    make_workflow(tenant)
    room = 17 if how == "runs_per_day" else used(tenant, Quota.STORED_BYTES) + 17 * len('{"who":"Ada"}')
    give(tenant, **{how: room})
    answers = at_once(lambda _: api.post("/api/v1/workflows/hello/runs", ADA))
    assert Counter(answer.status_code for answer in answers) == {202: 17, 403: THREADS - 17}
    accepted = {read(answer)["id"] for answer in answers if answer.status_code == 202}
    assert {str(run.pk) for run in Run.objects.for_tenant(tenant)} == accepted
    assert EventRecord.objects.for_tenant(tenant).filter(run__isnull=False).count() == 17
    assert used(tenant, Quota.RUNS_PER_DAY) == 17


def test_batches_share_what_there_is(tenant: Tenant, api: Api):
    make_workflow(tenant)
    give(tenant, runs_per_day=25)
    answers = at_once(lambda _: api.post("/api/v1/workflows/hello/runs/batch", {"runs": [ADA] * 7}), 10)
    bodies = [read(answer) for answer in answers]
    assert sum(body["accepted"] for body in bodies) == Run.objects.for_tenant(tenant).count() == 25
    statuses = Counter(result["status"] for body in bodies for result in body["results"])
    assert statuses == {202: 25, 403: 45}
    assert used(tenant, Quota.RUNS_PER_DAY) == 25


def test_as_many_workflows_are_stored_as_there_is_room_for(tenant: Tenant, api: Api):
    give(tenant, workflows=5)

    def store(number: int) -> HttpResponse:
        source = f"version: 2\nname: w{number}\nnodes: [{{id: a, type: log, config: {{message: x}}}}]"
        if number % 2:
            return api.put(f"/api/v1/workflows/w{number}", source, YAML)
        return api.post("/api/v1/workflows", source, YAML)

    answers = at_once(store, 20)
    assert Counter(answer.status_code for answer in answers) == {201: 5, 403: 15}
    assert Workflow.objects.for_tenant(tenant).count() == 5


def test_who_waits_for_room_does_not_get_what_was_rolled_back_counted(tenant: Tenant, api: Api):
    make_workflow(tenant)
    give(tenant, runs_per_day=1)

    def start(number: int) -> HttpResponse:
        if number:
            return api.post("/api/v1/workflows/hello/runs", ADA)
        with transaction.atomic():
            response = api.post("/api/v1/workflows/hello/runs", ADA)
            transaction.set_rollback(True)
        return response

    answers = at_once(start, 10)
    rolled_back = answers[0].status_code == 202
    assert Counter(answer.status_code for answer in answers[1:]) in ({202: 1, 403: 8}, {403: 9})
    # If the start that was rolled back came first, whoever waited for its end found the room empty again.
    assert rolled_back or Run.objects.for_tenant(tenant).count() == 1
    assert used(tenant, Quota.RUNS_PER_DAY) == Run.objects.for_tenant(tenant).count()


def test_room_is_looked_for_by_one_at_a_time(tenant: Tenant):
    give(tenant, workflows=3)

    def add(number: int) -> bool:
        try:
            with transaction.atomic():
                count = Workflow.objects.for_tenant(tenant).count
                quotas.check_room(tenant_id=tenant.pk, quota=Quota.WORKFLOWS, count=count)
                Workflow.objects.create(tenant=tenant, name=f"w{number}")
        except QuotaExceededError:
            return False
        return True

    assert Counter(at_once(add, 20)) == {True: 3, False: 17}  # type: ignore[arg-type] # answers of a verb, not of HTTP


def test_the_end_of_a_run_makes_room_for_the_next_of_its_tenant_at_once(tenant, registry, executor, finished, settings):
    settings.PYFLOW_SWEEP_SECONDS = 600.0
    give(tenant, concurrent_runs=1)
    register(registry, "slow", lambda ctx: time.sleep(0.2))
    with transaction.atomic():  # all have rung before the first has ended
        runs = [make_run(tenant, workflow("{id: a, type: slow}")) for _ in range(3)]
    for run in runs:
        assert finished(run).state == "succeeded"


@pytest.mark.parametrize("runs_per_day", [5, None])
def test_what_is_refused_as_the_day_ends_is_given_back_to_that_day(tenant, monkeypatch, runs_per_day):
    """Not to the next one, which would then have room for a run more than its limit."""
    give(tenant, runs_per_day=runs_per_day, stored_bytes=10)
    evening = datetime(2026, 1, 1, 23, 59, 59, tzinfo=UTC)
    monkeypatch.setattr(quotas.timezone, "now", lambda: evening)
    quotas.consume(tenant_id=tenant.pk, amounts={Quota.STORED_BYTES: 8})
    wanted = quotas.Consumption(tenant.pk, {Quota.RUNS_PER_DAY: 1, Quota.STORED_BYTES: 5})
    with connection.cursor() as cursor:
        cursor.execute(wanted.statement, wanted.parameters)
        granted = [name for (name,) in cursor.fetchall()]
    monkeypatch.setattr(quotas.timezone, "now", lambda: evening + timedelta(seconds=2))
    with pytest.raises(QuotaExceededError):
        wanted.settle(granted)
    days = [evening.date(), evening.date() + timedelta(days=1)]
    assert quotas.history(tenant_id=tenant.pk, first=days[0], last=days[1]) == dict.fromkeys(days, 0)
