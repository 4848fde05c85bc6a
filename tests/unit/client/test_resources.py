"""Secrets, sharing, limits, sessions, logs, plugins and documents through the client, on the platform itself."""

import httpx2
import pytest
from django.core.asgi import get_asgi_application

from pyflow_client import AsyncClient, Conflict, NotAuthenticated, NotFound, Session
from runs.worker.executor import RunExecutor
from tenants.api_keys import create_api_key
from tenants.services import create_tenant

SAY = """
version: 2
name: say
inputs: {who: string}
nodes:
  - {id: first, type: log, config: {message: "Hello {{ input.who }}"}}
  - {id: second, type: log, depends_on: [first], config: {message: "and bye", level: warning}}
"""


@pytest.fixture
def key(transactional_db) -> str:
    return create_api_key(tenant=create_tenant(slug="client"), name="test")[1]


def connect(key: str | None) -> AsyncClient:
    return AsyncClient("http://localhost", key, transport=httpx2.ASGITransport(app=get_asgi_application()))


async def test_secrets_are_written_and_never_read(key):
    async with connect(key) as pyflow:
        made = await pyflow.create_secret("TOKEN", "value one", description="of the shop")
        assert (made.name, made.version, made.description) == ("TOKEN", 1, "of the shop")
        with pytest.raises(Conflict):
            await pyflow.create_secret("TOKEN", "value two")
        assert (await pyflow.replace_secret("TOKEN", "value two")).version == 2
        assert (await pyflow.secret("TOKEN")).description == "of the shop"
        assert [item.name async for item in pyflow.secrets(search="TOK")] == ["TOKEN"]
        assert [(item.number, item.current) async for item in pyflow.secret_versions("TOKEN")] == [
            (2, True),
            (1, False),
        ]
        with pytest.raises(Conflict):
            await pyflow.destroy_secret_version("TOKEN", 2)
        await pyflow.destroy_secret_version("TOKEN", 1)
        assert (await pyflow.rotate_secret("TOKEN", "value three")).version == 3
        assert [item.destroyed_at is None async for item in pyflow.secret_versions("TOKEN")] == [True, False, False]
        await pyflow.delete_secret("TOKEN")
        with pytest.raises(NotFound):
            await pyflow.secret("TOKEN")


async def test_what_a_run_logged_is_read(key):
    async with connect(key) as pyflow:
        await pyflow.put_workflow("say", SAY)
        run = await pyflow.start_run("say", {"who": "Ada"})
        await RunExecutor().drain()
        lines = [line async for line in pyflow.logs(run.id, limit=1)]
        assert [(line.seq, line.level, line.node_id, line.message) for line in lines] == [
            (1, "info", "first", "Hello Ada"),
            (2, "warning", "second", "and bye"),
        ]
        assert [line.seq async for line in pyflow.logs(run.id, level="warning")] == [2]
        assert [line.seq async for line in pyflow.logs(run.id, after=1, node="first")] == []


async def test_documents_are_changed_compared_and_planned(key):
    async with connect(key) as pyflow:
        await pyflow.put_workflow("say", SAY)
        patched = await pyflow.patch_workflow("say", {"description": "greets"})
        assert (patched.version, patched.description) == (2, "greets")
        assert await pyflow.diff_patch("say", 1, 2) == [{"op": "add", "path": "/description", "value": "greets"}]
        for document in (
            SAY,
            {"version": 2, "name": "x", "nodes": [{"id": "a", "type": "fail", "config": {"message": "m"}}]},
        ):
            plan = await pyflow.dry_run_document(document, {"who": "Ada"})
            assert plan.order in {("first", "second"), ("a",)}
        assert {plugin.status for plugin in await pyflow.plugins()} <= {"loaded", "broken"}


async def test_workflows_are_shared_and_limits_are_read(key):
    async with connect(key) as pyflow, connect(None) as nobody:
        await pyflow.put_workflow("say", SAY)
        invited = await pyflow.invite("ada@example.org", "viewer")
        assert (await pyflow.invitation(invited.id)).state == "open"
        accepted = await nobody.accept_invitation(str(invited.token), "correct horse battery")
        member = await pyflow.member(accepted.member.id)
        first = await pyflow.share_with_member("say", member.id, "run")
        await pyflow.share_with_role("say", "editor", "write")
        assert {(grant.kind, grant.level) for grant in await pyflow.grants("say")} == {
            ("member", "run"),
            ("role", "write"),
        }
        await pyflow.unshare("say", first.id)
        assert [grant.name for grant in await pyflow.grants("say")] == ["editor"]
        limits = {quota.quota: quota for quota in (await pyflow.quotas()).quotas}
        usage = await pyflow.usage()
        assert {used.quota for used in usage.quotas} == limits.keys()
        assert len(usage.history) == 30
        made = await pyflow.create_api_key("deploy", "viewer")
        assert (await pyflow.api_key(made.id)).key is None


async def test_a_member_logs_in_and_out(key, settings):
    async with connect(key) as pyflow, connect(None) as nobody:
        invited = await pyflow.invite("ada@example.org", "viewer")
        await nobody.accept_invitation(str(invited.token), "correct horse battery")
        session = await nobody.log_in("client", "ada@example.org", "correct horse battery")
        assert isinstance(session, Session)
        assert session.access_token not in repr(session)
        async with connect(session.access_token) as ada:
            assert (await ada.me()).user.username == "ada@example.org"
        renewed = await nobody.renew_session(session.refresh_token)
        with pytest.raises(NotAuthenticated):
            await nobody.renew_session(session.refresh_token)
        await nobody.log_out(renewed.refresh_token)


async def test_a_ticket_opens_the_stream_that_it_is_for(key):
    async with connect(key) as pyflow:
        await pyflow.put_workflow("say", SAY)
        run = await pyflow.start_run("say", {"who": "Ada"})
        tickets = [await pyflow.stream_ticket(), await pyflow.stream_ticket(run.id)]
    assert [ticket.run for ticket in tickets] == [None, run.id]
    assert len({ticket.ticket for ticket in tickets}) == 2
    assert not any(ticket.ticket in repr(ticket) for ticket in tickets)
