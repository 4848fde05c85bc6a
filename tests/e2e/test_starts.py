"""Starts of runs at servers in processes of their own: many at once, and some that wait for the end of the run."""

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from django.db import connection

from runs.models import EventRecord, Run
from tests.support import waiting
from tests.support.factories.rows import make_api_key, make_tenant, make_workflow
from tests.support.processes.platform import Gunicorn, Server, WebServer, Worker, environment
from tests.support.servers import launcher
from tests.support.servers.ledger import Ledger

pytestmark = [pytest.mark.fleet, pytest.mark.e2e]
PATH = "/api/v1/workflows/hello/runs"
ADA = {"input": {"who": "Ada"}}
MANY = 20


@pytest.fixture
def tenant(transactional_db):
    return make_tenant()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def env(home: Path, django_db_setup) -> Iterator[dict[str, str]]:
    with launcher.redis() as url:
        yield environment(home, REDIS_URL=url, PYFLOW_EXECUTOR="celery", PYFLOW_LINGER_SECONDS="0.2")


@pytest.fixture(scope="module", params=[Gunicorn, Server], ids=["wsgi", "asgi"])
def server(request: pytest.FixtureRequest, env: dict[str, str], home: Path) -> Iterator[WebServer]:
    """All tests ask one server: what they leave in the database is removed behind its back, and it keeps nothing."""
    with request.param(env, home / "web.log", key="") as server:
        yield server


@pytest.fixture
def web(server: WebServer, tenant) -> WebServer:
    make_workflow(tenant)
    server.key = make_api_key(tenant)[1]
    return server


def at_once(server: WebServer, bodies: list, path: str = PATH, **headers: str) -> list:
    """What so many requests that are sent at the same moment are answered."""
    barrier = Barrier(len(bodies))

    def send(body: dict) -> tuple:
        barrier.wait()
        return server.call("POST", path, body, **headers)

    with ThreadPoolExecutor(len(bodies)) as threads:
        return list(threads.map(send, bodies))


def assert_one_run(run_id: str) -> None:
    assert [str(run.pk) for run in Run.objects.across_tenants()] == [run_id]
    assert EventRecord.objects.across_tenants().filter(type="run.queued").count() == 1


def test_one_idempotency_key_starts_one_run(web: WebServer):
    answers = at_once(web, [ADA] * MANY, idempotency_key="k")
    counted = Counter(status for status, _ in answers)
    assert counted.keys() <= {202, 409}
    assert counted[202] >= 1
    assert {body["code"] for status, body in answers if status == 409} <= {"idempotency_in_flight"}
    accepted = {body["id"] for status, body in answers if status == 202}
    accepted |= {body["id"] for _, body in at_once(web, [ADA], idempotency_key="k")}
    (run_id,) = accepted
    assert_one_run(run_id)


def test_one_key_starts_one_run(web: WebServer):
    answers = at_once(web, [ADA | {"key": "k"}] * MANY)
    assert Counter(status for status, _ in answers) == {202: 1, 200: MANY - 1}
    (run_id,) = {body["id"] for _, body in answers}
    assert_one_run(run_id)


def test_batches_that_share_keys_start_one_run_of_each(web: WebServer):
    keys = [str(number) for number in range(10)]
    batches = [{"runs": [ADA | {"key": key} for key in keys[i % 10 :] + keys[: i % 10]]} for i in range(MANY)]
    answers = at_once(web, batches, f"{PATH}/batch")
    assert {status for status, _ in answers} == {202}, answers
    assert sum(body["accepted"] for _, body in answers) == 10
    assert {result["status"] for _, body in answers for result in body["results"]} <= {200, 202}
    assert Run.objects.across_tenants().count() == 10


def test_a_start_that_waits_is_answered_with_the_finished_run(web: WebServer, env: dict[str, str], tmp_path: Path):
    with Worker(env, tmp_path / "worker"):
        answers = at_once(web, [ADA] * 4, prefer="wait=30")
    assert [status for status, _ in answers] == [200] * 4
    assert [(body["state"], body["outputs"]) for _, body in answers] == [("succeeded", {"greeting": "Hello Ada"})] * 4


def test_one_that_waits_holds_no_transaction(
    web: WebServer, tenant, env: dict[str, str], tmp_path: Path, ledger: Ledger
):
    make_workflow(tenant, f"version: 2\nname: held\nnodes: {json.dumps([ledger.node('one')])}\n")
    ledger.hold("one")
    with Worker(env, tmp_path / "worker"), ThreadPoolExecutor(4) as threads:
        path = "/api/v1/workflows/held/runs"
        asked = [threads.submit(web.call, "POST", path, {}, prefer="wait=30") for _ in range(4)]
        waiting.until(lambda: len(ledger.calls("one")) == 4, what="calls of all runs")
        waiting.until(lambda: transactions() == 0, what="end of all transactions")
        assert web.call("GET", "/api/v1/runs")[0] == 200
        ledger.release("one")
        assert [answer.result()[0] for answer in asked] == [200] * 4


def transactions() -> int:
    """How many sessions of others have one open."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND state LIKE 'idle in transaction%'"
        )
        return int(cursor.fetchone()[0])
