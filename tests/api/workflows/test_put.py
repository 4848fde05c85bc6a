"""`PUT /api/v1/workflows/{name}`."""

import json

import pytest
import yaml

from tenants.models import AuditEntry
from tests.support.api import YAML, Api, assert_problem, read
from tests.support.factories.rows import HELLO, make_api_key, make_tenant, make_workflow
from workflows.models import Version, Workflow

OPERATION = "workflows_put"
PATH = "/api/v1/workflows/hello"
pytestmark = pytest.mark.api


def test_it_stores_a_new_workflow(api: Api):
    response = api.put(PATH, HELLO, YAML)
    assert response.status_code == 201
    assert response.headers["Location"] == "http://testserver" + PATH
    assert read(response)["version"] == 1


def test_it_stores_a_new_version(api: Api, tenant):
    first = make_workflow(tenant)
    response = api.put(PATH, HELLO.replace("Greets", "Greets again"), YAML)
    assert response.status_code == 200
    body = read(response)
    assert (body["version"], body["description"]) == (2, "Greets again")
    assert body["checksum"] != first.checksum
    assert [version.number for version in Version.objects.for_tenant(tenant)] == [2, 1]


@pytest.mark.parametrize(
    "text",
    [
        f"# Who greets whom.\n{HELLO}",
        HELLO.replace("\n", "  # why\n", 1),
        json.dumps(yaml.safe_load(HELLO), indent=1),
        json.dumps(dict(reversed(yaml.safe_load(HELLO).items()))),
    ],
    ids=["comment above", "comment behind", "as JSON", "other order of keys"],
)
def test_a_document_that_means_the_same_makes_no_version(api: Api, tenant, text: str):
    before = read(api.put(PATH, HELLO, YAML))
    response = api.put(PATH, text, YAML)
    after = read(response)
    assert (response.status_code, after["version"], after["checksum"]) == (200, before["version"], before["checksum"])
    assert versions(tenant) == [before["version"]]
    assert api.get(f"{PATH}?format=yaml").content.decode() == HELLO


def test_what_another_tenant_has_is_not_the_same_document(api: Api, tenant):
    read(Api(make_api_key(make_tenant())[1]).put(PATH, HELLO, YAML))
    assert api.put(PATH, HELLO, YAML).status_code == 201
    assert versions(tenant) == [1]


def versions(tenant) -> list[int]:
    rows = Version.objects.for_tenant(tenant).filter(workflow__name="hello")
    return list(rows.order_by("number").values_list("number", flat=True))


def test_a_document_that_changes_nothing_makes_no_version(api: Api, tenant):
    make_workflow(tenant)
    response = api.put(PATH, HELLO, YAML)
    assert response.status_code == 200
    assert read(response)["version"] == 1


def test_an_earlier_version_stays_as_it_was(api: Api, tenant):
    first = make_workflow(tenant)
    api.put(PATH, HELLO.replace("Greets", "Greets again"), YAML)
    kept = Version.objects.for_tenant(tenant).get(number=1)
    assert (kept.source, kept.checksum, kept.definition) == (HELLO, first.checksum, first.definition)


def test_nobody_overwrites_what_they_have_not_seen(api: Api, tenant):
    make_workflow(tenant)
    tag = api.get(PATH).headers["ETag"]
    response = api.put(PATH, HELLO.replace("Greets", "Mine"), YAML, if_match=tag)
    assert response.status_code == 200
    assert response.headers["ETag"] not in {tag, None}
    assert_problem(api.put(PATH, HELLO.replace("Greets", "Theirs"), YAML, if_match=tag), 412, "precondition_failed")
    assert read(api.get(PATH))["description"] == "Mine"


def test_an_archived_workflow_is_not_changed(api: Api, tenant):
    make_workflow(tenant)
    api.post(f"{PATH}/archive")
    assert_problem(api.put(PATH, HELLO.replace("Greets", "Again"), YAML), 409, "workflow_archived")


def test_it_is_addressed_by_its_id_too(api: Api, tenant):
    version = make_workflow(tenant)
    response = api.put(f"/api/v1/workflows/{version.workflow_id}", HELLO.replace("Greets", "Again"), YAML)
    assert (response.status_code, read(response)["version"]) == (200, 2)


def test_if_match_makes_no_workflow(api: Api, tenant):
    assert_problem(api.put(PATH, HELLO, YAML, if_match="*"), 412, "precondition_failed")
    assert not Workflow.objects.for_tenant(tenant).exists()


def test_a_viewer_may_not(tenant):
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.put(PATH, HELLO, YAML), 403, "forbidden")


def test_it_is_recorded(api: Api, tenant):
    first = make_workflow(tenant)
    api.put(PATH, HELLO.replace("Greets", "Greets again"), YAML)
    created, updated = AuditEntry.objects.for_tenant(tenant).order_by("seq")
    assert (created.action, updated.action) == ("workflow.created", "workflow.updated")
    assert updated.target == f"workflow:{first.workflow_id}"
    assert json.loads(updated.record)["before"] == {
        "version": 1, "state": "published", "checksum": first.checksum,
    }  # fmt: skip


def test_it_answers_in_yaml(api: Api):
    response = api.put(PATH, HELLO, YAML, accept=YAML)
    assert response.headers["Content-Type"] == YAML
    assert read(response)["name"] == "hello"


def test_a_trailing_slash_is_accepted(api: Api):
    assert api.put(PATH + "/", HELLO, YAML).status_code == 201


def test_the_name_of_the_document_is_the_one_of_the_address(api: Api):
    body = assert_problem(api.put("/api/v1/workflows/other", HELLO, YAML), 422, "definition_invalid")
    assert body["errors"][0]["code"] == "name_mismatch"
    assert body["errors"][0]["pointer"] == "/name"


def test_a_wrong_document_leaves_the_workflow_as_it_was(api: Api, tenant):
    make_workflow(tenant)
    assert_problem(api.put(PATH, HELLO.replace("transform", "nonsense"), YAML), 422, "definition_invalid")
    assert read(api.get(PATH))["version"] == 1


def test_what_is_no_document_is_refused(api: Api):
    assert_problem(api.put(PATH, "name: [", YAML), 400, "document_invalid")


def test_a_body_above_1_mib_is_refused(api: Api):
    assert_problem(api.put(PATH, b"#" * (1024 * 1024 + 1), YAML), 413, "document_too_large")


def test_other_media_types_are_refused(api: Api):
    assert_problem(api.put(PATH, "name: a", "text/plain"), 415, "unsupported_media_type")


def test_it_answers_in_no_other_format(api: Api, tenant):
    assert_problem(api.put(PATH, HELLO, YAML, accept="text/html"), 406, "not_acceptable")
    assert not Version.objects.for_tenant(tenant).exists()


def test_it_needs_a_key(nobody: Api):
    assert_problem(nobody.put(PATH, HELLO, YAML), 401, "not_authenticated")


def test_it_hides_other_tenants(other_api: Api, tenant):
    """A workflow of that name in another tenant is neither seen nor changed."""
    make_workflow(tenant)
    response = other_api.put(PATH, HELLO.replace("Greets", "Mine"), YAML)
    assert response.status_code == 201
    assert read(response)["version"] == 1
    assert [version.source for version in Version.objects.for_tenant(tenant)] == [HELLO]


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get(PATH)
    with django_assert_num_queries(
        14
    ):  # the workflow, its version, the next number, both changes, bytes; 3 audit; 2 log; 3 triggers
        assert api.put(PATH, HELLO.replace("Greets", "Greets again"), YAML).status_code == 200
    with django_assert_num_queries(2):
        assert api.put(PATH, HELLO.replace("Greets", "Greets again"), YAML).status_code == 200
