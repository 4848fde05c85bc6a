"""What nodes report of their progress: the last of it is written now and then, and shown while they are executed."""

import asyncio
import threading

import pytest

from runs.models import NodeRun, Run
from runs.storage import batch_sql
from tests.support import waiting
from tests.support.api import Api, read
from tests.support.factories.nodes import register, workflow
from tests.support.factories.rows import make_api_key, make_run, make_tenant
from tests.support.factories.secrets import make_secret
from tests.support.processes.running import ended, executing, workers

pytestmark = pytest.mark.database
SECRET = "hunter-two-and-more"
REPORTS = 1_000


@pytest.fixture
def opened() -> threading.Event:
    """Lets the nodes of a test go on."""
    return threading.Event()


@pytest.fixture
def busy(registry, opened):
    """Registers a node that reports very often, then waits until it may go on, and fails if its config says so."""

    async def report(ctx, config) -> str:
        token = await asyncio.to_thread(ctx.secret, "TOKEN")
        for number in range(REPORTS + 1):
            ctx.progress(number / REPORTS / 2, f"{number} of {2 * REPORTS} with {token}")
            if number % 100 == 0:
                await asyncio.sleep(0.01)
        await asyncio.to_thread(opened.wait, 60)
        if getattr(config, "fails", False):
            raise ValueError("no more")
        return "done"

    register(registry, "busy", report)


def progress_of(run: Run) -> dict | None:
    return NodeRun.objects.across_tenants().filter(run=run, node_id="a").values_list("progress", flat=True).first()


def half_done(run: Run) -> dict:
    return waiting.until(
        lambda: (found := progress_of(run)) and found["fraction"] == 0.5 and found, what="the last report"
    )


@pytest.fixture
def written(monkeypatch) -> list[dict]:
    """The rows of nodes with progress that the group writer writes."""
    rows, store = [], batch_sql.store
    monkeypatch.setattr(
        batch_sql, "store", lambda given: rows.extend(row for row in given.nodes if row["progress"]) or store(given)
    )
    return rows


def test_the_last_report_of_a_node_is_shown_while_it_is_executed(tenant, busy, opened, written):
    make_secret(tenant, "TOKEN", SECRET)
    api = Api(make_api_key(tenant)[1])
    run, other = make_run(tenant, workflow("{id: a, type: busy}")), make_run(make_tenant())
    path = f"/api/v1/runs/{run.pk}"
    with executing():
        said = half_done(run)
        assert said["message"] == f"{REPORTS} of {2 * REPORTS} with ***"
        assert said["item"] is None
        answer = api.get(path)
        [node] = read(answer)["nodes"]
        assert (node["progress"], node["state"]) == (said, "running")
        assert read(api.get(f"{path}/nodes/a"))["progress"] == said
        [told] = read(api.get(f"{path}/explain"))["nodes"]
        assert told["progress"] == said
        assert "reported 50%" in told["detail"]
        NodeRun.objects.for_tenant(tenant).filter(run=run).update(progress=said | {"fraction": 0.75})
        assert api.get(path, if_none_match=answer.headers["ETag"]).status_code == 200, "it changes without an event"
        assert len(written) < REPORTS / 100, "one row a second, not one a report"
        opened.set()
        ended(run, "succeeded")
        ended(other, "succeeded")
    assert progress_of(run) is None


def test_how_far_a_node_came_that_failed_stays(tenant, busy, opened):
    make_secret(tenant, "TOKEN", SECRET)
    run = make_run(tenant, workflow("{id: a, type: busy, config: {fails: true}}"))
    with executing():
        said = half_done(run)
        opened.set()
        ended(run, "failed")
    assert progress_of(run) == said


def test_a_fan_out_shows_which_item_reported(tenant, busy, opened):
    make_secret(tenant, "TOKEN", SECRET)
    run = make_run(tenant, workflow("{id: a, type: busy, for_each: [x, y], max_parallel: 1}"))
    with executing():
        assert half_done(run)["item"] == {"index": 0, "key": "0"}
        opened.set()
        ended(run, "succeeded")
    assert progress_of(run) is None


def test_a_node_that_another_worker_executes_reports_too(tenant, busy, opened, written, settings):
    settings.PYFLOW_SWEEP_SECONDS = 0.5
    make_secret(tenant, "TOKEN", SECRET)
    run = make_run(tenant, workflow("{id: a, type: busy, queue: gpu}"))
    with workers("", "gpu"):
        assert half_done(run)["message"].endswith("***")
        assert len(written) < REPORTS / 100
        opened.set()
        ended(run, "succeeded")
    assert progress_of(run) is None
