"""What the clients send, and what they make of the answers."""

import inspect
import json
from datetime import UTC, datetime

import pytest

from pyflow_client import AsyncClient, Client, UnexpectedAnswer

NOW = "2026-11-22T10:00:00Z"
WORKFLOW = {
    "id": "1",
    "name": "hello",
    "description": "",
    "labels": {},
    "version": 3,
    "checksum": "c",
    "created_at": NOW,
    "updated_at": NOW,
}
RUN = {
    "id": "r1",
    "workflow": "hello",
    "version": 3,
    "state": "succeeded",
    "input": {},
    "outputs": {"a": 1},
    "error": None,
    "created_at": NOW,
    "started_at": NOW,
    "finished_at": None,
}


def event(seq: int, kind: str = "node.started") -> dict:
    return {"seq": seq, "type": kind, "at": NOW, "node_id": None, "data": {}}


def test_the_twins_have_the_same_methods():
    def surface(cls: type) -> dict[str, list]:
        methods = {name: item for name, item in inspect.getmembers(cls, inspect.isfunction) if name[0] != "_"}
        signatures = {name: inspect.signature(item) for name, item in methods.items()}
        return {name: list(signature.parameters.values()) for name, signature in signatures.items()}

    assert surface(Client) == surface(AsyncClient)


def test_the_key_is_sent_and_not_shown(server, ask):
    server.answer(200, {"results": []})
    assert ask("workflows") == []
    assert server.asked[0].headers["Authorization"] == "Bearer key"
    assert "secret" not in repr(Client("http://127.0.0.1:1", "secret")) + repr(
        AsyncClient("http://127.0.0.1:1", "secret")
    )


def test_workflows_are_listed(server, ask):
    server.answer(200, {"results": [WORKFLOW]})
    (workflow,) = ask("workflows")
    assert (workflow.name, workflow.version, workflow.definition) == ("hello", 3, None)
    assert workflow.created_at == datetime(2026, 11, 22, 10, tzinfo=UTC)


def test_one_workflow_has_its_definition(server, ask):
    server.answer(200, WORKFLOW | {"definition": {"name": "hello"}})
    assert ask("workflow", "hello").definition == {"name": "hello"}
    assert (server.asked[0].method, server.asked[0].path) == ("GET", "/api/v1/workflows/hello")


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        ("name: hello\n", "application/yaml"),
        ("{name: hello}", "application/yaml"),
        ('{"name": "hello"}', "application/json"),
        ({"name": "hello"}, "application/json"),
    ],
)
def test_a_document_is_sent_as_what_it_is(server, ask, document, media_type):
    server.answer(201, WORKFLOW)
    ask("create_workflow", document)
    ask("put_workflow", "hello", document)
    create, put = server.asked
    assert (create.method, create.path) == ("POST", "/api/v1/workflows")
    assert (put.method, put.path) == ("PUT", "/api/v1/workflows/hello")
    assert create.headers["Content-Type"] == put.headers["Content-Type"] == media_type
    if isinstance(document, str):
        assert create.body == document.encode()
    else:
        assert json.loads(create.body) == document


def test_names_are_one_segment_of_the_path(server, ask):
    server.answer(200, WORKFLOW)
    ask("workflow", "a/b ü?")
    assert server.asked[0].path == "/api/v1/workflows/a%2Fb%20%C3%BC%3F"


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_names_nothing_is_refused(server, ask, name):
    with pytest.raises(ValueError, match="names nothing"):
        ask("workflow", name)
    assert server.asked == []


def test_a_run_is_started_with_its_input(server, ask):
    server.answer(202, RUN | {"state": "queued"})
    run = ask("start_run", "hello", {"who": "Ada"})
    assert not run.finished
    assert run.nodes == ()
    assert server.asked[0].path == "/api/v1/workflows/hello/runs"
    assert json.loads(server.asked[0].body) == {"input": {"who": "Ada"}}


def test_a_run_is_read_with_nodes_and_events(server, ask):
    node = {"id": "greet", "state": "failed", "attempts": 2, "output": None, "reason": None}
    node["error"] = {"code": "node_error", "message": "no", "type": "ValueError", "node_id": "greet"}
    server.answer(200, RUN | {"nodes": [node], "events": [event(1)]})
    run = ask("run", "r1")
    assert run.finished
    assert run.succeeded
    assert run.nodes[0].error.message == "no"
    assert run.events[0].seq == 1


def test_a_field_that_a_newer_server_adds_does_no_harm(server, ask):
    server.answer(200, RUN | {"priority": 5})
    assert ask("run", "r1").outputs == {"a": 1}


def test_events_are_asked_for_by_number(server, ask):
    server.answer(200, {"results": [event(8)], "state": "running"})
    page = ask("events", "r1", after=7, limit=1)
    assert (page.results[0].seq, page.state, page.final) == (8, "running", False)
    assert server.asked[0].path == "/api/v1/runs/r1/events?after=7&limit=1"


def test_a_server_that_is_not_ready_is_an_answer(server, ask):
    server.answer(503, {"status": "failing", "checks": {"database": "unreachable"}})
    health = ask("health")
    assert not health.ok
    assert health.checks == {"database": "unreachable"}
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>router</html>", b'{"hello": 1}'])
def test_an_answer_of_something_else_says_so(server, ask, body):
    server.answer(200, body)
    with pytest.raises(UnexpectedAnswer, match="GET api/v1/runs/r1"):
        ask("run", "r1")


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://127.0.0.1", "http://"])
@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_an_address_that_is_none_of_http_is_refused(client, url):
    with pytest.raises(ValueError, match="base_url"):
        client(url)


def test_an_address_may_have_a_path(server):
    server.answer(200, {"results": []})
    with Client(server.url + "/pyflow") as client:
        assert list(client.workflows()) == []
    assert server.asked[0].path == "/pyflow/api/v1/workflows"
