"""`kill -9`, in the middle of runs: what was completed stays completed, and what was not is done."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from runs.models import Run
from runs.services.start import start_version
from tests.support import waiting
from tests.support.factories.rows import make_api_key, make_tenant, make_workflow
from tests.support.histories import assert_is_whole, assert_no_completed_node_was_called_again
from tests.support.processes.platform import Executors, Server
from tests.support.servers.ledger import Ledger

pytestmark = [pytest.mark.database, pytest.mark.e2e]
KILLS = 10
DIAMOND = ("first", "left", "right", "join", "last")


def diamond(ledger: Ledger) -> str:
    nodes = [
        ledger.node("first"),
        ledger.node("left", "first"),
        ledger.node("right", "first"),
        ledger.node("join", "left", "right"),
        ledger.node("last", "join"),
    ]
    return f"version: 2\nname: diamond\noutputs: {{last: '{{{{ last.body.node }}}}'}}\nnodes: {json.dumps(nodes)}\n"


def test_a_run_goes_on_after_its_server_was_killed(single: dict[str, str], tmp_path: Path, ledger: Ledger):
    tenant = make_tenant()
    make_workflow(tenant, diamond(ledger))
    ledger.hold("join")
    with Server(single, tmp_path / "log", make_api_key(tenant)[1]) as server:
        status, accepted = server.call("POST", "/api/v1/workflows/diamond/runs", {})
        assert status == 202
        path = f"/api/v1/runs/{accepted['id']}"
        waiting.until(lambda: ledger.calls("join"), what="call of the node in the middle")
        waiting.until(lambda: len(server.call("GET", path)[1]["nodes"]) == 4, what="record of its start")
        server.kill()

        ledger.release("join")
        server.start()
        waiting.until(lambda: server.call("GET", path)[1]["state"] == "succeeded", what="end of the run")
        _, body = server.call("GET", path)

    assert Counter(call.node for call in ledger.calls()) == {"first": 1, "left": 1, "right": 1, "join": 2, "last": 1}
    assert [event["seq"] for event in body["events"]] == list(range(1, len(body["events"]) + 1))
    assert body["outputs"] == {"last": "last"}
    assert {node["id"]: node["attempts"] for node in body["nodes"]} == dict.fromkeys(DIAMOND, 1) | {"join": 2}
    run = Run.objects.for_tenant(tenant).get()
    assert run.claims == 2
    assert_is_whole(run, DIAMOND)


def test_a_run_that_was_accepted_and_never_begun_is_executed(single: dict[str, str], tmp_path: Path, ledger: Ledger):
    """Its row is the job: nothing but the database knows of it."""
    tenant = make_tenant()
    run = start_version(version=make_workflow(tenant, diamond(ledger)), input={})
    with Server(single, tmp_path / "log", make_api_key(tenant)[1]):
        waiting.until(lambda: _unfinished(tenant) == 0, what="end of the run")
    assert Counter(call.node for call in ledger.calls()) == dict.fromkeys(DIAMOND, 1)
    assert_is_whole(run, DIAMOND)


def test_a_server_that_is_asked_to_stop_hands_its_runs_back(single: dict[str, str], tmp_path: Path, ledger: Ledger):
    """The next process need not wait for a lease to end."""
    tenant = make_tenant()
    run = start_version(version=make_workflow(tenant, diamond(ledger)), input={})
    ledger.hold("join")
    with Server(single, tmp_path / "log", make_api_key(tenant)[1]) as server:
        waiting.until(lambda: ledger.calls("join"), what="call of the node in the middle")
        assert server.process is not None
        server.process.terminate()
        server.process.wait(10)
        assert "Traceback" not in server.log()
    run.refresh_from_db()
    assert (run.state, run.owner, run.lease_until) == ("queued", "", None)


def test_no_kill_at_any_moment_repeats_a_completed_node(single: dict[str, str], tmp_path: Path, ledger: Ledger):
    chance = random.Random(20)
    tenant = make_tenant()
    version = make_workflow(tenant, diamond(ledger))
    ledger.pace = 0.02
    runs = []
    with Executors(single, tmp_path / "log") as executors:
        for _ in range(KILLS):
            runs += [start_version(version=version, input={}) for _ in range(2)]
            pid, before = executors.fork(), len(ledger.calls())
            # Anywhere in the course of the new runs: they make 10 calls.
            calls = before + chance.randint(1, 9)
            waiting.until(lambda calls=calls: len(ledger.calls()) >= calls, what="progress")
            # A run that was lost twice in a row is let go on a step: the third time would end it, as it should.
            waiting.until(lambda: not _lost_twice(tenant), what="a node of a run that was lost twice")
            executors.stop(pid)
        last = executors.fork()
        waiting.until(lambda: _unfinished(tenant) == 0, 30, "end of all runs")
        executors.stop(last)

    for run in runs:
        assert_is_whole(run, DIAMOND)
        assert_no_completed_node_was_called_again(run, ledger.calls())
    assert len(ledger.calls()) > len(runs) * len(DIAMOND), "no kill hit a running node: the test has proved nothing"


def _lost_twice(tenant) -> bool:
    return Run.objects.for_tenant(tenant).filter(losses__gte=2, finished_at=None).exists()


def _unfinished(tenant) -> int:
    return Run.objects.for_tenant(tenant).filter(finished_at=None).count()
