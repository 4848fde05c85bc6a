"""Workflows, their versions, verdicts and drawings through the client."""

import httpx2
import pytest
from django.core.asgi import get_asgi_application

from pyflow_client import AsyncClient, Conflict, NotFound
from tenants.api_keys import create_api_key
from tenants.services import create_tenant
from tests.unit.client.test_requests import WORKFLOW

HELLO = """version: 2
name: hello  # whom it greets is in the input
inputs: {who: string}
nodes:
  - {id: greet, type: transform, config: {input: "Hello {{ input.who }}", expression: $}}
"""


def test_all_pages_of_workflows_are_read(server, ask):
    server.answer(200, {"results": [WORKFLOW], "next": f"{server.url}/api/v1/workflows?cursor=c2"})
    server.answer(200, {"results": [WORKFLOW | {"name": "later"}], "next": None})
    assert [workflow.name for workflow in ask("workflows", search="l")] == ["hello", "later"]
    assert [asked.path for asked in server.asked] == [
        "/api/v1/workflows?search=l",
        "/api/v1/workflows?search=l&cursor=c2",
    ]


def test_a_document_comes_back_as_it_is(server, ask):
    server.answer(200, "name: ü  # ünï\r\n".encode(), {"Content-Type": "application/yaml"})
    assert ask("source", "hello", 3) == "name: ü  # ünï\r\n"
    assert server.asked[0].path == "/api/v1/workflows/hello/versions/3?format=yaml"


def test_what_makes_a_version_is_not_sent_twice(server, ask):
    server.answer(503, {"detail": "busy"})
    for name, arguments in (("create_draft", ["hello", HELLO]), ("rollback", ["hello", 1]), ("publish", ["hello", 1])):
        server.asked.clear()
        with pytest.raises(Exception, match="busy"):
            ask(name, *arguments)
        assert len(server.asked) == 1


@pytest.fixture
def pyflow(transactional_db) -> AsyncClient:
    key = create_api_key(tenant=create_tenant(slug="client"), name="test")[1]
    return AsyncClient("http://localhost", key, transport=httpx2.ASGITransport(app=get_asgi_application()))


async def test_versions_are_drafted_published_and_rolled_back(pyflow):
    await pyflow.create_workflow(HELLO)
    draft = await pyflow.create_draft("hello", HELLO + "description: second\n")
    assert (draft.number, draft.state) == (2, "draft")
    await pyflow.edit_draft("hello", 2, HELLO + "description: edited\n")
    assert (await pyflow.publish("hello", 2)).state == "published"
    with pytest.raises(Conflict):
        await pyflow.edit_draft("hello", 2, HELLO)
    (change,) = (await pyflow.diff("hello", 1, 2))["document"]
    assert (change["pointer"], change["after"]) == ("/description", "edited")
    assert "+description: edited\n" in await pyflow.diff_text("hello", 1, 2)
    back = await pyflow.rollback("hello", 1)
    assert (back.number, back.copied_from) == (3, 1)
    assert (await pyflow.archive_version("hello", 3)).state == "archived"
    assert [version.number async for version in pyflow.versions("hello", state="published")] == [2, 1]
    current = await pyflow.workflow("hello")
    assert (current.version, current.description) == (2, "edited")
    assert await pyflow.source("hello", 1) == HELLO
    assert await pyflow.source("hello") == HELLO + "description: edited\n"
    assert (await pyflow.version("hello", 2)).definition["description"] == "edited"


async def test_drafts_and_workflows_are_deleted(pyflow):
    await pyflow.create_workflow(HELLO)
    await pyflow.create_draft("hello", HELLO)
    await pyflow.delete_draft("hello", 2)
    assert (await pyflow.archive_workflow("hello")).archived_at is not None
    assert [workflow.name async for workflow in pyflow.workflows()] == []
    assert [workflow.name async for workflow in pyflow.workflows(state="archived")] == ["hello"]
    assert (await pyflow.unarchive_workflow("hello")).archived_at is None
    await pyflow.delete_workflow("hello")
    with pytest.raises(NotFound):
        await pyflow.workflow("hello")


async def test_documents_are_judged_planned_and_drawn(pyflow):
    verdict = await pyflow.validate(HELLO.replace("transform", "transfrom"))
    assert (verdict.valid, verdict.problems[0].suggestion, verdict.problems[0].line) == (False, "transform", 5)
    await pyflow.create_workflow(HELLO)
    plan = await pyflow.dry_run("hello", {"who": "Ada"})
    assert (plan.order, plan.input_problems) == (("greet",), ())
    assert [node["id"] for node in (await pyflow.graph("hello"))["nodes"]] == ["greet"]
    assert (await pyflow.drawing("hello")).startswith("<svg")
    assert "greet" in await pyflow.drawing("hello", format="mermaid", version=1)


async def test_the_catalogue_and_the_format_are_read(pyflow):
    names = [node_type.type for node_type in await pyflow.node_types()]
    assert "http" in names
    assert (await pyflow.node_type("http")).config["type"] == "object"
    assert "nodes" in (await pyflow.workflow_schema())["properties"]
