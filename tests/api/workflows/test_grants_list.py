"""`GET /api/v1/workflows/{name}/grants`."""

import pytest

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_member, make_workflow

OPERATION = "grants_list"
PATH = "/api/v1/workflows/hello/grants"
pytestmark = pytest.mark.api


def test_roles_come_before_members(api: Api, tenant):
    make_workflow(tenant)
    member = make_member(tenant)
    api.post(PATH, {"member": str(member.pk), "level": "write"})
    api.post(PATH, {"role": "viewer", "level": "run"})
    found = [(grant["id"], grant["level"]) for grant in read(api.get(PATH))["results"]]
    assert found == [("role:viewer", "run"), (f"member:{member.pk}", "write")]


def test_who_left_is_not_in_it(api: Api, tenant):
    make_workflow(tenant)
    member = make_member(tenant)
    api.post(PATH, {"member": str(member.pk), "level": "write"})
    member.delete()
    assert read(api.get(PATH)) == {"results": []}


def test_it_hides_other_tenants(api: Api, other_api: Api, tenant):
    make_workflow(tenant)
    assert_same_answer(other_api.get(PATH), other_api.get("/api/v1/workflows/nothing/grants"))


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.get(PATH), 401, "not_authenticated")


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.post(PATH, {"role": "viewer", "level": "run"})
    with django_assert_num_queries(3):  # the workflow; grants to roles, to users (no members among them)
        api.get(PATH)
