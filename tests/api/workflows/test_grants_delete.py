"""`DELETE /api/v1/workflows/{name}/grants/{grant_id}`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.members import api_of
from tests.support.factories.rows import make_member, make_workflow

OPERATION = "grants_delete"
GRANTS = "/api/v1/workflows/hello/grants"
PATH = f"{GRANTS}/role:viewer"
pytestmark = pytest.mark.api


@pytest.fixture(autouse=True)
def shared(api: Api, tenant):
    make_workflow(tenant)
    api.post(GRANTS, {"role": "viewer", "level": "run"})


def test_what_was_allowed_is_allowed_no_more(api: Api, tenant):
    viewer = api_of(make_member(tenant))
    start = {"input": {"who": "Ada"}}
    assert viewer.post("/api/v1/workflows/hello/runs", start).status_code == 202
    assert api.send("DELETE", PATH).status_code == 204
    assert_problem(viewer.post("/api/v1/workflows/hello/runs", start), 403, "forbidden")
    assert read(api.get(GRANTS)) == {"results": []}


@pytest.mark.parametrize(
    "grant", ["role:owner", "role:x", "member:x", "member:00000000-0000-7000-8000-000000000000", "x"]
)
def test_a_grant_that_is_not_there_is_not_found(api: Api, grant: str):
    assert_problem(api.send("DELETE", f"{GRANTS}/{grant}"), 404, "grant_not_found")


def test_it_hides_other_tenants(other_api: Api):
    unknown = other_api.send("DELETE", "/api/v1/workflows/nothing/grants/role:viewer")
    assert_same_answer(other_api.send("DELETE", PATH), unknown)


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.send("DELETE", PATH), 401, "not_authenticated")


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    with django_assert_num_queries(6):  # the workflow, the group, the grant; the audit: head, entry, end
        assert api.send("DELETE", PATH).status_code == 204
