"""The fleet: web here, a real Celery worker, a real broker. A message only wakes a worker; the row is the job."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pyflow_site.celery import app
from runs.models import Run
from runs.notify.current import notifications
from runs.tasks import sweep
from tests.support import waiting
from tests.support.api import Api, read
from tests.support.factories.rows import make_api_key, make_tenant, make_workflow
from tests.support.histories import assert_is_whole, assert_no_completed_node_was_called_again
from tests.support.processes.platform import Beat, Worker, environment
from tests.support.servers import launcher
from tests.support.servers.broker import publishing_to
from tests.support.servers.ledger import Ledger

pytestmark = [pytest.mark.fleet, pytest.mark.e2e]
CHAIN = ("one", "two", "three")


@pytest.fixture
def broker() -> Iterator[str]:
    """A broker of its own, which this process publishes to as well."""
    with launcher.redis() as url, publishing_to(f"{url}/0"):
        yield url


@pytest.fixture
def fleet(tmp_path: Path, transactional_db, broker: str) -> dict[str, str]:
    return environment(tmp_path / "home", REDIS_URL=broker, PYFLOW_EXECUTOR="celery", PYFLOW_LINGER_SECONDS="0.2")


@pytest.fixture
def tenant(transactional_db):
    return make_tenant()


@pytest.fixture
def api(tenant, ledger: Ledger, broker: str) -> Api:
    nodes = [ledger.node("one"), ledger.node("two", "one"), ledger.node("three", "two")]
    make_workflow(tenant, f"version: 2\nname: chain\nnodes: {json.dumps(nodes)}\n")
    return Api(make_api_key(tenant)[1])


def start(api: Api) -> Run:
    response = api.post("/api/v1/workflows/chain/runs", {})
    assert response.status_code == 202
    return Run.objects.across_tenants().get(pk=read(response)["id"])


def is_finished(run: Run) -> bool:
    run.refresh_from_db()
    return run.finished_at is not None


def test_a_worker_executes_what_the_api_accepted(api: Api, fleet: dict[str, str], tmp_path: Path, ledger: Ledger):
    with Worker(fleet, tmp_path / "worker"):
        run = start(api)
        waiting.until(lambda: is_finished(run), what="end of the run")
    assert [call.node for call in ledger.calls()] == list(CHAIN)
    assert_is_whole(run, CHAIN)
    assert run.claims == 1


def test_another_worker_goes_on_where_one_was_killed(api: Api, fleet: dict[str, str], tmp_path: Path, ledger: Ledger):
    ledger.hold("two")
    with Worker(fleet, tmp_path / "worker") as worker:
        run = start(api)
        waiting.until(lambda: ledger.calls("two"), what="call of the node in the middle")
        worker.kill()
        ledger.release("two")
        worker.start()
        waiting.until(lambda: sweep() or is_finished(run), what="end of the run")
    assert [call.node for call in ledger.calls()] == ["one", "two", "two", "three"]
    assert_no_completed_node_was_called_again(run, ledger.calls())
    assert_is_whole(run, CHAIN)
    assert run.claims == 2


def test_a_flushed_broker_loses_no_run(api: Api, fleet: dict[str, str], tmp_path: Path, broker: str):
    """Beat notifies of queued runs that only the database knows."""
    runs = [start(api) for _ in range(5)]
    assert notifications().flush(10), "everything is sent"
    with redis.Redis.from_url(broker) as client:
        assert 1 <= client.llen("celery") <= 5, "notifications that come together are one message"
        client.flushall()
    with Beat(fleet, tmp_path / "beat"), Worker(fleet, tmp_path / "worker"):
        for run in runs:
            waiting.until(lambda run=run: is_finished(run), what="end of a run whose message was lost")
    for run in runs:
        assert_is_whole(run, CHAIN)


def test_messages_without_work_are_harmless(api: Api, fleet: dict[str, str], tmp_path: Path, ledger: Ledger):
    """Each message may come twice, or when everything is done."""
    run = start(api)
    for _ in range(10):
        app.send_task("runs.execute", ignore_result=True)
    with Worker(fleet, tmp_path / "worker") as worker:
        waiting.until(lambda: worker.log().count("succeeded in") >= 11, what="end of all tasks")
    assert_is_whole(run, CHAIN)
    assert len(ledger.calls()) == 3


def test_a_worker_that_is_asked_to_stop_hands_its_runs_to_the_next(
    api: Api, fleet: dict[str, str], tmp_path: Path, ledger: Ledger
):
    """A deployment: no lease has to end first, and being replaced is no loss."""
    ledger.hold("two")
    with Worker(fleet | {"PYFLOW_LEASE_SECONDS": "60"}, tmp_path / "worker") as worker:
        run = start(api)
        waiting.until(lambda: ledger.calls("two"), what="call of the node in the middle")
        assert worker.process is not None
        worker.process.terminate()
        worker.process.wait(10)
        run.refresh_from_db()
        assert (run.state, run.owner, run.lease_until) == ("queued", "", None)
        ledger.release("two")
        worker.kill()
        worker.start()
        waiting.until(lambda: is_finished(run), what="end of the run")
    assert_is_whole(run, CHAIN)
    assert (run.claims, run.losses) == (2, 0)
