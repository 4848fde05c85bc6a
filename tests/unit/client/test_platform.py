"""The client against the platform itself, over ASGI."""

import httpx2
import pytest
from django.core.asgi import get_asgi_application

from pyflow_client import AsyncClient, Conflict, Invalid, NotAuthenticated, NotFound, RunNotFinished
from runs.worker.executor import RunExecutor
from tenants.api_keys import create_api_key
from tenants.services import create_tenant

pytestmark = pytest.mark.django_db(transaction=True)

HELLO = """
version: 2
name: hello
inputs: {who: string}
outputs: {greeting: "{{ greet }}"}
nodes:
  - {id: greet, type: transform, config: {input: "Hello {{ input.who }}", expression: $}}
"""
URL = "http://localhost"


@pytest.fixture
def key() -> str:
    return create_api_key(tenant=create_tenant(slug="client"), name="test")[1]


def connect(key: str | None) -> AsyncClient:
    return AsyncClient(URL, key, transport=httpx2.ASGITransport(app=get_asgi_application()))


async def test_a_workflow_is_stored_run_and_followed(key):
    async with connect(key) as pyflow:
        stored = await pyflow.put_workflow("hello", HELLO)
        again = await pyflow.put_workflow("hello", HELLO)
        assert stored.version == again.version == 1
        assert [workflow.name async for workflow in pyflow.workflows()] == ["hello"]
        assert (await pyflow.workflow("hello")).definition["name"] == "hello"

        queued = await pyflow.start_run("hello", {"who": "Ada"})
        assert queued.state == "queued"
        with pytest.raises(RunNotFinished):
            await pyflow.wait(queued.id, 0)
        await RunExecutor().drain()

        events = [event async for event in pyflow.follow(queued.id)]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert events[-1].type == "run.succeeded"
        run = await pyflow.wait(queued.id, 5)
        assert run.outputs == {"greeting": "Hello Ada"}
        assert [(node.id, node.state) for node in run.nodes] == [("greet", "succeeded")]
        assert run.events == tuple(events)


async def test_what_is_refused_says_why(key):
    async with connect(key) as pyflow:
        await pyflow.create_workflow(
            {"version": 2, "name": "same", "nodes": [{"id": "a", "type": "log", "config": {"message": "x"}}]}
        )
        with pytest.raises(Conflict) as conflict:
            await pyflow.create_workflow({"version": 2, "name": "same", "nodes": []})
        assert conflict.value.code == "workflow_exists"
        with pytest.raises(NotFound) as missing:
            await pyflow.workflow("nothing")
        assert missing.value.code == "workflow_not_found"
        assert missing.value.request_id
        with pytest.raises(Invalid) as invalid:
            await pyflow.create_workflow("version: 2\nname: x\nnodes:\n  - {id: a, type: transfrom}\n")
        (item,) = [item for item in invalid.value.errors if item.code == "unknown_node_type"]
        assert (item.line, item.suggestion) == (4, "transform")
        await pyflow.put_workflow("hello", HELLO)
        with pytest.raises(Invalid) as wrong_input:
            await pyflow.start_run("hello", {"who": 7})
        assert wrong_input.value.errors[0].pointer == "/input/who"


async def test_without_a_key_nothing_is_shown(key):
    async with connect(None) as pyflow:
        with pytest.raises(NotAuthenticated):
            await anext(pyflow.workflows())
        assert (await pyflow.health()).ok
