"""Members, invitations, keys and the audit through the client."""

import json

import httpx2
import pytest
from django.core.asgi import get_asgi_application

from pyflow_client import AsyncClient, Conflict, NotAuthenticated, NotFound
from tenants.api_keys import create_api_key
from tenants.services import create_tenant

NOW = "2026-11-22T10:00:00Z"
MEMBER = {
    "id": "m1",
    "user": {"id": 1, "username": "ada", "email": ""},
    "role": "owner",
    "created_at": NOW,
    "updated_at": NOW,
}


def test_a_list_is_read_page_by_page(server, ask):
    server.answer(200, {"results": [MEMBER], "next": "http://other.example/api/v1/members?cursor=a%3Ab&limit=1"})
    server.answer(200, {"results": [MEMBER | {"id": "m2"}], "next": None})
    assert [member.id for member in ask("members")] == ["m1", "m2"]
    assert [asked.path for asked in server.asked] == ["/api/v1/members", "/api/v1/members?cursor=a%3Ab"]


def test_filters_of_the_audit_are_sent(server, ask):
    server.answer(200, {"results": [], "next": None})
    assert ask("audit", action="member.removed") == []
    assert server.asked[0].path == "/api/v1/audit?action=member.removed"


def test_a_change_says_what_it_is_about(server, ask):
    server.answer(200, MEMBER)
    assert ask("change_role", "m1", "owner", if_match='"tag"').role == "owner"
    (asked,) = server.asked
    assert (asked.method, asked.headers["If-Match"], json.loads(asked.body)) == ("PATCH", '"tag"', {"role": "owner"})


def test_an_answer_without_content_is_none(server, ask):
    server.answer(204, b"")
    assert ask("remove_member", "m1") is None
    assert server.asked[0].method == "DELETE"


def connect(key: str | None) -> AsyncClient:
    return AsyncClient("http://localhost", key, transport=httpx2.ASGITransport(app=get_asgi_application()))


@pytest.fixture
def key(transactional_db) -> str:
    return create_api_key(tenant=create_tenant(slug="client"), name="test")[1]


async def test_the_platform_answers_as_the_client_expects(key):
    async with connect(key) as pyflow, connect(None) as nobody:
        assert (await pyflow.me()).tenant.slug == (await pyflow.tenant()).slug == "client"
        assert (await pyflow.rename_tenant("Client Inc")).name == "Client Inc"
        invited = await pyflow.invite("ada@example.org", "editor", expires_in=3600)
        with pytest.raises(Conflict):
            await pyflow.invite("ada@example.org", "editor")
        accepted = await nobody.accept_invitation(str(invited.token), "correct horse battery")
        assert [item.state async for item in pyflow.invitations()] == ["accepted"]
        assert (await pyflow.change_role(accepted.member.id, "viewer")).role == "viewer"
        assert [member.user.username async for member in pyflow.members()] == ["ada@example.org"]
        await pyflow.remove_member(accepted.member.id)
        with pytest.raises(NotFound):
            await pyflow.remove_member(accepted.member.id)

        made = await pyflow.create_api_key("deploy", "editor", scopes=["runs:read"])
        async with connect(made.key) as deploy:
            assert (await deploy.me()).permissions == ("runs:read",)
            new = await pyflow.rotate_api_key(made.id, grace=0)
            with pytest.raises(NotAuthenticated):
                await deploy.me()
        await pyflow.revoke_api_key(new.id)
        assert [item.usable async for item in pyflow.api_keys()] == [False, False, True]
        actions = [entry.action async for entry in pyflow.audit()]
        assert actions[:2] == ["api_key.revoked", "api_key.rotated"]
        assert actions[-1] == "tenant.created"
        verified = await pyflow.verify_audit()
        assert (verified.whole, verified.complete, verified.seq) == (True, True, len(actions))
        rest = await pyflow.verify_audit(after=(verified.seq, verified.hash))
        assert (rest.whole, rest.entries) == (True, 0)
