"""`POST /api/v1/workflows/{name}/grants`."""

import pytest

from tenants.access import Role
from tenants.models import AuditEntry, Membership
from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.members import api_of
from tests.support.factories.rows import HELLO, make_api_key, make_member, make_run, make_workflow

OPERATION = "grants_create"
PATH = "/api/v1/workflows/hello/grants"
WORKFLOW = "/api/v1/workflows/hello"
pytestmark = pytest.mark.api


@pytest.fixture(autouse=True)
def workflow(tenant):
    make_workflow(tenant)


def test_a_viewer_with_a_grant_runs_one_workflow_and_no_other(api: Api, tenant):
    member = make_member(tenant)
    make_workflow(tenant, HELLO.replace("name: hello", "name: other"))
    viewer = api_of(member)
    start = {"input": {"who": "Ada"}}
    assert_problem(viewer.post(f"{WORKFLOW}/runs", start), 403, "forbidden")
    response = api.post(PATH, {"member": str(member.pk), "level": "run"})
    assert response.status_code == 201, response.content
    assert read(response) == {
        "id": f"member:{member.pk}",
        "kind": "member",
        "name": member.user.get_username(),
        "level": "run",
    }
    assert viewer.post(f"{WORKFLOW}/runs", start).status_code == 202
    assert_problem(viewer.post("/api/v1/workflows/other/runs", start), 403, "forbidden")
    assert_problem(viewer.put(WORKFLOW, HELLO, YAML), 403, "forbidden")


def test_a_grant_to_a_role_is_for_all_who_have_it(api: Api, tenant):
    viewers = [api_of(make_member(tenant)) for _ in range(2)]
    assert api.post(PATH, {"role": "viewer", "level": "write"}).status_code == 201
    for number, viewer in enumerate(viewers):
        assert viewer.put(WORKFLOW, HELLO.replace("Greets", f"Greets {number}"), YAML).status_code == 200


def test_a_grant_does_not_widen_the_scopes_of_a_key(api: Api, tenant):
    member = make_member(tenant)
    api.post(PATH, {"member": str(member.pk), "level": "write"})
    values = {"role": Role.VIEWER.value, "created_by": member.user}
    narrow = Api(make_api_key(tenant, scopes=["workflows:read"], **values)[1])
    wide = Api(make_api_key(tenant, **values)[1])
    assert_problem(narrow.put(WORKFLOW, HELLO, YAML), 403, "forbidden")
    assert wide.put(WORKFLOW, HELLO, YAML).status_code == 200


def test_a_second_grant_to_the_same_replaces_the_first(api: Api, tenant):
    for level in ("write", "read"):
        api.post(PATH, {"role": "viewer", "level": level})
    assert [grant["level"] for grant in read(api.get(PATH))["results"]] == ["read"]
    assert AuditEntry.objects.for_tenant(tenant).filter(action="grant.set").count() == 2
    assert_problem(api_of(make_member(tenant)).put(WORKFLOW, HELLO, YAML), 403, "forbidden")


def test_what_is_shared_of_a_workflow_is_shared_of_its_runs(api: Api, tenant):
    member = make_member(tenant)
    viewer = api_of(member)
    shared, other = make_run(tenant), make_run(tenant, HELLO.replace("name: hello", "name: other"))
    for run in (shared, other):
        assert_problem(viewer.post(f"/api/v1/runs/{run.pk}/cancel"), 403, "forbidden")
    api.post(PATH, {"member": str(member.pk), "level": "run"})
    assert viewer.post(f"/api/v1/runs/{shared.pk}/cancel").status_code == 202
    assert_problem(viewer.post(f"/api/v1/runs/{shared.pk}/signals", {"name": "go"}), 409, "signal_not_awaited")
    assert viewer.post(f"{WORKFLOW}/runs/batch", {"runs": [{"input": {"who": "Ada"}}]}).status_code < 300
    assert_problem(viewer.post(f"/api/v1/runs/{other.pk}/cancel"), 403, "forbidden")


def test_a_grant_ends_with_the_membership(api: Api, tenant, other_tenant):
    """Also for who becomes a member again; what another tenant has shared with the same person stays."""
    member = make_member(tenant)
    api.post(PATH, {"member": str(member.pk), "level": "write"})
    elsewhere = Membership.objects.create(tenant=other_tenant, user=member.user, role="viewer")
    make_workflow(other_tenant)
    admin = Api(make_api_key(other_tenant)[1])
    admin.post(PATH, {"member": str(elsewhere.pk), "level": "run"})
    assert api.send("DELETE", f"/api/v1/members/{member.pk}", if_match="*").status_code == 204
    again = Membership.objects.create(tenant=tenant, user=member.user, role="viewer")
    assert_problem(api_of(again).put(WORKFLOW, HELLO, YAML), 403, "forbidden")
    assert read(api.get(PATH))["results"] == []
    assert [grant["level"] for grant in read(admin.get(PATH))["results"]] == ["run"]


@pytest.mark.parametrize("level", ["read", "run", "write"])
def test_a_key_shares_nothing_that_it_may_not_do_itself(tenant, level: str):
    narrow = Api(make_api_key(tenant, scopes=["workflows:share", "workflows:read"])[1])
    problem = assert_problem(narrow.post(PATH, {"role": "viewer", "level": level}), 403, "beyond_own_rights")
    assert "`runs:read`" in problem["detail"]
    assert not AuditEntry.objects.for_tenant(tenant).filter(action="grant.set").exists()


def test_an_editor_shares_nothing(tenant):
    editor = api_of(make_member(tenant, Role.EDITOR))
    assert_problem(editor.post(PATH, {"role": "viewer", "level": "run"}), 403, "forbidden")


@pytest.mark.parametrize(
    "body", [{}, {"level": "run"}, {"role": "viewer", "level": "all"}, {"role": "x", "level": "run"}]
)
def test_a_body_of_another_shape_is_refused(api: Api, body: dict[str, str]):
    assert_problem(api.post(PATH, body), 422, "input_invalid")


def test_it_hides_other_tenants(api: Api, other_api: Api, other_tenant):
    """Neither is another tenant's workflow shared, nor is a workflow shared with another tenant's member."""
    mine = {"role": "viewer", "level": "run"}
    assert_same_answer(other_api.post(PATH, mine), other_api.post("/api/v1/workflows/nothing/grants", mine))
    stranger = make_member(other_tenant)
    assert_problem(api.post(PATH, {"member": str(stranger.pk), "level": "run"}), 404, "member_not_found")


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.post(PATH, {}), 401, "not_authenticated")


def test_its_queries_are_counted(api: Api, django_assert_num_queries):
    body = {"role": "viewer", "level": "run"}
    api.post(PATH, body)
    # The workflow, the group, what was shared (read twice); it goes; the permission; guardian looks, too; the audit
    with django_assert_num_queries(11):
        assert api.post(PATH, body | {"level": "read"}).status_code == 201
