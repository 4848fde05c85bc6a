"""`PATCH /api/v1/workflows/{name}`."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.api import Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import make_api_key, make_workflow
from workflows import services
from workflows.models import Version

OPERATION = "workflows_patch"
PATH = "/api/v1/workflows/hello"
pytestmark = pytest.mark.api


MERGE = "application/merge-patch+json"
PATCH = {"description": "Patched", "labels": {"team": None, "tier": "1"}}


def test_it_publishes_the_document_with_the_changes(api: Api, tenant):
    make_workflow(tenant)
    tag = api.get(PATH).headers["ETag"]
    response = api.send("PATCH", PATH, PATCH, MERGE, if_match=tag)
    assert response.status_code == 200
    body = read(response)
    assert (body["version"], body["description"], body["labels"]) == (2, "Patched", {"tier": "1"})
    assert Version.objects.for_tenant(tenant).get(number=2).source_format == "yaml"
    assert read(api.get(PATH))["definition"]["nodes"] == read(api.get(f"{PATH}/versions/1"))["definition"]["nodes"]


BODIES = [("description: Patched", "application/yaml"), (b'{"description": "Patched"}', "application/json")]


@pytest.mark.parametrize(("body", "content_type"), BODIES)
def test_yaml_and_json_are_accepted_too(api: Api, tenant, body, content_type: str):
    make_workflow(tenant)
    response = api.send("PATCH", PATH, body, content_type, if_match="*")
    assert read(response)["description"] == "Patched"


def test_a_result_that_is_no_workflow_is_refused(api: Api, tenant):
    make_workflow(tenant)
    for patch in ({"nodes": None}, {"name": "other"}, [], '"text"', {"nodes": [{"id": "a", "type": "tranform"}]}):
        assert_problem(api.send("PATCH", PATH, patch, MERGE, if_match="*"), 422, "definition_invalid")
    assert read(api.get(PATH))["version"] == 1


def test_nobody_changes_what_they_have_not_seen(api: Api, tenant):
    make_workflow(tenant)
    tag = api.get(PATH).headers["ETag"]
    assert_problem(api.send("PATCH", PATH, PATCH, MERGE), 428, "precondition_required")
    api.send("PATCH", PATH, PATCH, MERGE, if_match=tag)
    assert_problem(api.send("PATCH", PATH, PATCH, MERGE, if_match=tag), 412, "precondition_failed")


def test_an_archived_workflow_is_not_changed(api: Api, tenant):
    make_workflow(tenant)
    api.post(f"{PATH}/archive")
    assert_problem(api.send("PATCH", PATH, PATCH, MERGE, if_match="*"), 409, "workflow_archived")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.send("PATCH", PATH, PATCH, MERGE, if_match="*"), 401, "not_authenticated")


def test_a_viewer_may_not(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.send("PATCH", PATH, PATCH, MERGE, if_match="*"), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    hidden, unknown = (
        other_api.send("PATCH", PATH, PATCH, MERGE, if_match="*"),
        other_api.send("PATCH", "/api/v1/workflows/unknown", PATCH, MERGE, if_match="*"),
    )
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_a_document_is_checked_before_the_workflow_is_locked(api: Api, tenant, monkeypatch):
    """And again when another version came meanwhile: no change is lost."""
    make_workflow(tenant)
    real, locks = services.check_document, []

    def check(source: str, source_format):
        locks.append([query for query in context.captured_queries if "FOR NO KEY UPDATE" in query["sql"]])
        if len(locks) == 1:
            monkeypatch.setattr(services, "check_document", real)
            assert api.send("PATCH", PATH, {"labels": {"first": "1"}}, MERGE, if_match="*").status_code == 200
        return real(source, source_format)

    monkeypatch.setattr(services, "check_document", check)
    with CaptureQueriesContext(connection) as context:
        assert api.send("PATCH", PATH, {"labels": {"second": "2"}}, MERGE, if_match="*").status_code == 200
    assert locks == [[]]
    assert read(api.get(PATH))["definition"]["labels"] == {"team": "tests", "first": "1", "second": "2"}


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    api.get(PATH)
    # The workflow and its version, both again once it is locked; its version, the next number, both changes; 3 audit.
    with django_assert_num_queries(17):  # 3 of them of the rows of triggers
        assert api.send("PATCH", PATH, PATCH, MERGE, if_match="*").status_code == 200
