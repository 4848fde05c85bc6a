"""Runs through the client: lists, starts with options, batches, nodes, items and graphs."""

import json
import time
from datetime import UTC, datetime

import httpx2
import pytest
from django.core.asgi import get_asgi_application

from pyflow_client import AsyncClient, Conflict, ConnectionFailed, NotFound, Start
from runs.worker.executor import RunExecutor
from tenants.api_keys import create_api_key
from tenants.services import create_tenant

NOW = "2026-11-22T10:00:00Z"
RUN = {"id": "r1", "workflow": "hello", "version": 1, "state": "queued", "input": {}, "created_at": NOW}
EACH = """
version: 2
name: each
inputs: {names: array}
nodes:
  - id: greet
    type: transform
    for_each: "{{ input.names }}"
    config: {input: "Hello {{ item }}", expression: $}
"""


def test_runs_are_listed_page_by_page_as_filtered(server, ask):
    server.answer(200, {"results": [RUN], "next": "http://other.example/api/v1/runs?cursor=c"})
    server.answer(200, {"results": [RUN | {"id": "r2"}], "next": None})
    since = datetime(2026, 11, 22, 10, tzinfo=UTC)
    runs = ask("runs", state=["queued", "running"], label="team:tests", created_after=since)
    assert [run.id for run in runs] == ["r1", "r2"]
    first, second = (asked.path.partition("?") for asked in server.asked)
    assert first[0] == "/api/v1/runs"
    pairs = ["state=queued", "state=running", "label=team%3Atests", "created_after=2026-11-22T10%3A00%3A00%2B00%3A00"]
    assert first[2].split("&") == pairs
    assert second[2].split("&") == [*pairs, "cursor=c"]


def test_a_start_says_only_what_was_chosen(server, ask):
    server.answer(202, RUN)
    ask("start_run", "hello")
    ask("start_run", "hello", {"a": 1}, version=2, labels={"b": "c"}, priority=9, key="k", wait=7, idempotency_key="i")
    plain, full = server.asked
    assert json.loads(plain.body) == {"input": {}}
    assert not {"Prefer", "Idempotency-Key"} & plain.headers.keys()
    assert json.loads(full.body) == {"input": {"a": 1}, "version": 2, "labels": {"b": "c"}, "priority": 9, "key": "k"}
    assert (full.headers["Prefer"], full.headers["Idempotency-Key"]) == ("wait=7", "i")


@pytest.mark.parametrize("key", [{"key": "k"}, {"idempotency_key": "k"}], ids=str)
def test_a_start_with_a_key_is_repeated(server, ask, key: dict[str, str]):
    server.answer(0, b"")
    server.answer(202, RUN)
    assert ask("start_run", "hello", **key).id == "r1"
    assert len(server.asked) == 2


def test_a_start_without_a_key_is_not_repeated(server, ask):
    server.answer(0, b"")
    with pytest.raises(ConnectionFailed):
        ask("start_run", "hello")
    assert len(server.asked) == 1


def test_a_batch_has_an_answer_for_each_start(server, ask):
    problem = {"code": "input_invalid", "status": 422}
    server.answer(202, {"results": [{"status": 202, "run": RUN}, {"status": 422, "problem": problem}], "accepted": 1})
    batch = ask("start_runs", "hello", [Start(input={"a": 1}), Start(key="k")], idempotency_key="i")
    assert [(item.status, item.run and item.run.id, item.problem) for item in batch.results] == [
        (202, "r1", None),
        (422, None, problem),
    ]
    (asked,) = server.asked
    assert json.loads(asked.body) == {"runs": [{"input": {"a": 1}}, {"input": {}, "key": "k"}]}
    assert asked.headers["Idempotency-Key"] == "i"


def test_ids_of_nodes_are_one_segment_of_the_path(server, ask):
    server.answer(200, {"results": [], "next": None})
    assert ask("items", "r1", "a/b") == []
    assert server.asked[0].path == "/api/v1/runs/r1/nodes/a%2Fb/items"


def test_values_of_any_size_are_read_by_themselves(server, ask):
    reference = {"sha256": "ab" * 32, "size": 300_000}
    server.answer(200, RUN | {"input_ref": reference, "outputs": None, "outputs_ref": reference})
    for value in ({"a": 1}, None, "text", [1]):
        server.answer(200, json.dumps(value).encode())
    run = ask("run", "r1")
    assert (run.input_ref.size, run.outputs_ref.sha256) == (300_000, "ab" * 32)
    assert ask("input_of", "r1") == {"a": 1}
    assert ask("outputs_of", "r1") is None
    assert ask("output_of", "r1", "a/b") == "text"
    assert ask("output_of", "r1", "a", item=7) == [1]
    assert [asked.path for asked in server.asked][1:] == [
        "/api/v1/runs/r1/input",
        "/api/v1/runs/r1/outputs",
        "/api/v1/runs/r1/nodes/a%2Fb/output",
        "/api/v1/runs/r1/nodes/a/items/7/output",
    ]


@pytest.fixture
def key(transactional_db) -> str:
    return create_api_key(tenant=create_tenant(slug="client"), name="test")[1]


async def test_the_platform_answers_as_the_client_expects(key):
    transport = httpx2.ASGITransport(app=get_asgi_application())
    async with AsyncClient("http://localhost", key, transport=transport) as pyflow:
        await pyflow.put_workflow("each", EACH)
        names = {"names": ["Ada", "Grace"]}
        began = time.monotonic()
        run = await pyflow.start_run("each", names, labels={"for": "test"}, priority=7, key="one", wait=1)
        assert (run.state, run.priority, run.trigger, run.key) == ("queued", 7, "api", "one")
        assert time.monotonic() - began >= 1
        batch = await pyflow.start_runs("each", [Start(input=names, key="one"), Start(input={}), Start(input=names)])
        assert [item.status for item in batch.results] == [200, 422, 202]
        with pytest.raises(NotFound) as missing:
            await pyflow.start_run("each", names, version=2)
        assert missing.value.code == "version_not_found"
        await pyflow.create_draft("each", EACH)
        with pytest.raises(Conflict):
            await pyflow.start_run("each", names, version=2)
        await RunExecutor().drain()

        listed = [item async for item in pyflow.runs(workflow="each", label="for:test", state="succeeded", limit=1)]
        assert [item.id for item in listed] == [run.id]
        assert [item.state async for item in pyflow.runs(limit=1)] == ["succeeded"] * 2
        assert [node.state async for node in pyflow.nodes(run.id)] == ["succeeded"]
        node = await pyflow.node(run.id, "greet")
        assert (node.type, node.items, len(node.history)) == ("transform", 2, 1)
        items = [item async for item in pyflow.items(run.id, "greet", limit=1)]
        assert [item.output for item in items] == ["Hello Ada", "Hello Grace"]
        assert await pyflow.output_of(run.id, "greet", item=1) == "Hello Grace"
        assert await pyflow.output_of(run.id, "greet") == ["Hello Ada", "Hello Grace"]
        assert await pyflow.input_of(run.id) == names
        assert await pyflow.outputs_of(run.id) is None
        assert [node["state"] for node in (await pyflow.run_graph(run.id))["nodes"]] == ["succeeded"]
        assert (await pyflow.run_drawing(run.id)).startswith("<svg")
