"""What is asked of runs through the client: what is sent, what is sent again, and against the platform."""

import json

import httpx2
import pytest
from django.core.asgi import get_asgi_application

from pyflow_client import AsyncClient, Conflict, ConnectionFailed
from runs.worker.executor import RunExecutor
from tenants.api_keys import create_api_key
from tenants.services import create_tenant

NOW = "2026-11-22T10:00:00Z"
RUN = {"id": "r1", "workflow": "hello", "version": 1, "state": "queued", "input": {}, "created_at": NOW}
CHAIN = """
version: 2
name: chain
nodes:
  - {id: a, type: log, config: {message: a}}
  - {id: ask, type: approval, depends_on: [a], config: {message: ok?, assignees: [ada]}}
"""


@pytest.mark.parametrize("verb", ["cancel", "terminate", "pause", "resume", "retry"])
def test_a_verb_is_a_post_that_answers_with_the_run(server, ask, verb: str):
    server.answer(202, RUN)
    assert ask(verb, "r 1").id == "r1"
    assert (server.asked[0].method, server.asked[0].path) == ("POST", f"/api/v1/runs/r%201/{verb}")


@pytest.mark.parametrize(
    ("method", "given"),
    [("terminate", {}), ("resume", {}), ("retry", {}), ("rerun", {}), ("act_on_runs", {"runs": ["r1"]})],
)
def test_what_may_have_happened_is_not_asked_again(server, ask, method: str, given: dict):
    server.answer(0, None)
    with pytest.raises(ConnectionFailed):
        ask(method, "cancel" if method == "act_on_runs" else "r1", **given)
    assert len(server.asked) == 1


@pytest.mark.parametrize("verb", ["cancel", "pause"])
def test_what_asking_twice_does_not_change_is_asked_again(server, ask, verb: str):
    server.answer(0, None)
    server.answer(202, RUN)
    assert ask(verb, "r1").state == "queued"
    assert len(server.asked) == 2


def test_a_rerun_says_from_where_and_on_what(server, ask):
    server.answer(0, None)
    server.answer(202, RUN)
    ask("rerun", "r1", start_from="b", version=3, input={"n": 1}, idempotency_key="k")
    asked = server.asked[-1]
    assert json.loads(asked.body) == {"from": "b", "version": "3", "input": {"n": 1}}
    assert (asked.headers["Idempotency-Key"], len(server.asked)) == ("k", 2)


def test_many_runs_are_named_or_filtered(server, ask):
    server.answer(200, {"results": [], "accepted": 0, "next": None})
    ask("act_on_runs", "pause", ["r1", "r2"])
    ask("act_on_runs", "retry", workflow="hello", state=["failed"], search="x", limit=5, after="r9")
    assert [json.loads(asked.body) for asked in server.asked] == [
        {"action": "pause", "runs": ["r1", "r2"]},
        {
            "action": "retry",
            "filter": {"workflow": ["hello"], "state": ["failed"], "search": "x"},
            "limit": 5,
            "after": "r9",
        },
    ]
    for given in ({}, {"runs": ["r1"], "workflow": "hello"}):
        with pytest.raises(ValueError, match="either the ids"):
            ask("act_on_runs", "pause", **given)


@pytest.fixture
def key(transactional_db) -> str:
    return create_api_key(tenant=create_tenant(slug="client"), name="test")[1]


async def test_a_run_is_explained_and_led_by_the_platform(key: str):
    transport = httpx2.ASGITransport(app=get_asgi_application())
    async with AsyncClient("http://localhost", key, transport=transport) as pyflow:
        await pyflow.put_workflow("chain", CHAIN)
        run = await pyflow.start_run("chain")
        explained = await pyflow.explain(run.id)
        assert (explained.reasons[0].code, explained.queue.ahead) == ("queue", 0)
        assert [(node.id, node.code) for node in explained.nodes] == [("a", "ready"), ("ask", "dependencies")]
        assert (await pyflow.pause(run.id)).pause_requested_at is not None
        assert (await pyflow.resume(run.id)).state == "queued"
        await RunExecutor().drain()
        explained = await pyflow.explain(run.id)
        assert [(node.id, node.code, node.signal) for node in explained.nodes] == [("ask", "approval", "approval:ask")]
        assert explained.possible == ("cancel", "terminate", "pause", "rerun", "signal")
        assert (await pyflow.terminate(run.id)).state == "cancelled"
        with pytest.raises(Conflict, match="has ended already"):
            await pyflow.pause(run.id)
        assert (await pyflow.retry(run.id)).retries == 1
        plan = await pyflow.plan_rerun(run.id, start_from="ask")
        assert [(node.node, node.action) for node in plan.nodes] == [("a", "reuse"), ("ask", "run")]
        again = await pyflow.rerun(run.id, start_from="ask")
        assert again.source_run == run.id
        stopped = await pyflow.act_on_runs("terminate", workflow="chain")
        assert [(item.status, item.run.state) for item in stopped.results] == [(200, "cancelled")] * 2
        refused = await pyflow.act_on_runs("terminate", [run.id])
        assert (refused.accepted, refused.results[0].problem["code"]) == (0, "run_finished")
