"""`POST /api/v1/api-keys`."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from tenants.models import ApiKey, AuditEntry, IdempotentAnswer
from tests.support.api import Api, assert_problem, read
from tests.support.factories.rows import make_api_key, make_member

OPERATION = "api_keys_create"
PATH = "/api/v1/api-keys"
DEPLOY = {"name": "deploy", "role": "editor", "scopes": ["runs:write", "runs:read"]}
pytestmark = pytest.mark.api


def test_it_shows_a_key_that_works_once(api: Api, tenant):
    response = api.post(PATH, DEPLOY)
    assert response.status_code == 201
    body = read(response)
    assert response.headers["Location"].endswith(f"{PATH}/{body['id']}")
    assert body["scopes"] == ["runs:read", "runs:write"]
    me = read(Api(body["key"]).get("/api/v1/me"))
    assert (me["role"], me["permissions"]) == ("editor", ["runs:read", "runs:write"])
    assert body["key"].encode() not in api.get(f"{PATH}/{body['id']}").content
    entry = AuditEntry.objects.for_tenant(tenant).get()
    assert entry.action == "api_key.created"
    assert body["key"] not in entry.record
    assert json.loads(entry.record)["after"]["last4"] == body["key"][-4:]


def test_a_repeated_request_makes_one_and_shows_no_key(api: Api, tenant):
    first = api.post(PATH, DEPLOY, idempotency_key="k1")
    again = api.post(PATH, DEPLOY, idempotency_key="k1")
    assert again.headers["Idempotent-Replayed"] == "true"
    assert read(again) == read(first) | {"key": None}
    assert ApiKey.objects.for_tenant(tenant).filter(name="deploy").count() == 1
    assert read(first)["key"] not in IdempotentAnswer.objects.for_tenant(tenant).get().body


def test_it_does_not_outlive_the_key_that_makes_it(api: Api, tenant):
    """Nor does one that was replaced make another one for after its grace."""
    end = timezone.now() + timedelta(days=1)
    ending = Api(make_api_key(tenant, expires_at=end)[1])
    for expires_at in (None, (end + timedelta(seconds=1)).isoformat()):
        problem = assert_problem(ending.post(PATH, DEPLOY | {"expires_at": expires_at}), 403, "beyond_own_rights")
        assert "cannot expire later" in problem["detail"]
    assert_problem(ending.post(PATH, DEPLOY), 403, "beyond_own_rights")
    assert ending.post(PATH, DEPLOY | {"expires_at": end.isoformat()}).status_code == 201
    replaced, text = make_api_key(tenant)
    api.post(f"{PATH}/{replaced.pk}/rotate", {"grace": 3600})
    assert_problem(Api(text).post(PATH, DEPLOY), 403, "beyond_own_rights")


def test_it_is_bound_to_the_member_who_makes_it(tenant):
    member = make_member(tenant, name="ada")
    member.role = "admin"
    member.save()
    _, key = make_api_key(tenant, role="admin", created_by=member.user)
    body = read(Api(key).post(PATH, DEPLOY))
    assert body["created_by"]["username"] == "ada@example.org"


@pytest.mark.parametrize(
    ("role", "body", "status"),
    [
        ("viewer", {"role": "viewer"}, 403),
        ("editor", {"role": "viewer"}, 403),
        ("admin", {"role": "admin"}, 201),
        ("admin", {"role": "owner"}, 403),
        ("admin", {"role": "owner", "scopes": ["runs:read"]}, 403),
        ("owner", {"role": "owner"}, 201),
        ("owner", {"role": "viewer", "scopes": ["runs:write"]}, 403),
    ],
)
def test_a_key_can_do_no_more_than_whoever_makes_it(tenant, role: str, body: dict, status: int):
    api = Api(make_api_key(tenant, role=role)[1])
    assert api.post(PATH, {"name": "x"} | body).status_code == status


def test_a_narrowed_key_makes_narrower_ones_only(tenant):
    api = Api(make_api_key(tenant, role="admin", scopes=["keys:write", "runs:read"])[1])
    plain = assert_problem(api.post(PATH, {"name": "x", "role": "viewer"}), 403, "beyond_own_rights")
    assert "`workflows:read`" in plain["detail"]
    wider = {"name": "x", "role": "viewer", "scopes": ["runs:read", "members:read"]}
    assert_problem(api.post(PATH, wider), 403, "beyond_own_rights")
    assert api.post(PATH, {"name": "x", "role": "viewer", "scopes": ["runs:read"]}).status_code == 201


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "x" * 201},
        {"role": None},
        {"scopes": []},
        {"scopes": ["everything"]},
        {"scopes": "runs:read"},
        {"scopes": {"runs:read": True}},
        {"expires_at": "yesterday"},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": 7},
        {"secret_hash": "x"},
    ],
)
def test_nonsense_is_refused(api: Api, change):
    assert_problem(api.post(PATH, DEPLOY | change), 422, "input_invalid")


def test_it_expires_when_it_says(api: Api):
    end = timezone.now() + timedelta(hours=1)
    body = read(api.post(PATH, DEPLOY | {"expires_at": end.isoformat()}))
    assert body["expires_at"].startswith(end.isoformat()[:19])


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, DEPLOY), 401, "not_authenticated")


def test_it_hides_other_tenants(api: Api, other_api: Api, other_tenant):
    body = read(api.post(PATH, DEPLOY))
    assert not ApiKey.objects.for_tenant(other_tenant).filter(name="deploy").exists()
    assert_problem(other_api.get(f"{PATH}/{body['id']}"), 404, "api_key_not_found")


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    api.post(PATH, DEPLOY)
    with django_assert_num_queries(4):  # itself; the audit's head, entry and head
        api.post(PATH, DEPLOY | {"name": "another"})


def test_a_name_is_that_of_one_key_until_it_is_revoked(api: Api, other_api: Api):
    """Approvals name keys: whoever makes another one of the same name must not decide in its place."""
    made = read(api.post(PATH, DEPLOY | {"name": "Straße"}))
    for name in ("Straße", "STRASSE", "straße"):
        problem = assert_problem(api.post(PATH, DEPLOY | {"name": name}), 409, "api_key_name_taken")
        assert "revoke" in problem["detail"]
    assert other_api.post(PATH, DEPLOY | {"name": "Straße"}).status_code == 201
    rotated = read(api.post(f"{PATH}/{made['id']}/rotate", {}))
    assert rotated["name"] == "Straße"
    assert_problem(api.post(PATH, DEPLOY | {"name": "Straße"}), 409, "api_key_name_taken")
    assert api.send("DELETE", f"{PATH}/{rotated['id']}").status_code == 204
    assert api.post(PATH, DEPLOY | {"name": "Straße"}).status_code == 201
