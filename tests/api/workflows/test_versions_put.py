"""`PUT /api/v1/workflows/{name}/versions/{number}`."""

import pytest
from django.db import DatabaseError, connection, transaction

from tests.support.api import YAML, Api, assert_problem, assert_same_answer, read
from tests.support.factories.rows import HELLO, make_api_key, make_draft, make_workflow
from workflows.models import ImmutableVersionError, Version

OPERATION = "versions_put"
PATH = "/api/v1/workflows/hello/versions/2"
pytestmark = pytest.mark.api


EDITED = HELLO.replace("Greets", "Edited")


def test_a_draft_is_edited(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant)
    tag = api.get(PATH).headers["ETag"]
    response = api.put(PATH, EDITED, YAML, if_match=tag)
    assert (response.status_code, read(response)["state"]) == (200, "draft")
    assert response.headers["ETag"] != tag
    assert api.get(f"{PATH}?format=yaml").content == EDITED.encode()


def test_nobody_overwrites_what_they_have_not_seen(api: Api, tenant):
    make_workflow(tenant)
    make_draft(tenant)
    tag = api.get(PATH).headers["ETag"]
    assert_problem(api.put(PATH, EDITED, YAML), 428, "precondition_required")
    api.put(PATH, EDITED, YAML, if_match=tag)
    assert_problem(api.put(PATH, HELLO, YAML, if_match=tag), 412, "precondition_failed")


def test_a_published_version_never_changes(api: Api, tenant):
    make_workflow(tenant)
    path = "/api/v1/workflows/hello/versions/1"
    assert_problem(api.put(path, EDITED, YAML, if_match="*"), 409, "version_state")
    assert api.get(f"{path}?format=yaml").content == HELLO.encode()


def test_neither_the_model_nor_the_database_lets_a_published_version_change(tenant):
    version = Version.objects.for_tenant(tenant.pk).get(pk=make_workflow(tenant).pk)
    version.source = "other"
    with pytest.raises(ImmutableVersionError, match="source"):
        version.save()
    for change in ("source = 'other'", "checksum = 'other'", "number = 7", "state = 'draft', publication = NULL"):
        with pytest.raises(DatabaseError, match="never changes"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"UPDATE workflows_version SET {change}")


def test_it_needs_a_key(nobody: Api, tenant):
    make_workflow(tenant)
    assert_problem(nobody.put(PATH, EDITED, YAML, if_match="*"), 401, "not_authenticated")


def test_a_viewer_may_not(tenant):
    make_workflow(tenant)
    viewer = Api(make_api_key(tenant, role="viewer")[1])
    assert_problem(viewer.put(PATH, EDITED, YAML, if_match="*"), 403, "forbidden")


def test_it_hides_other_tenants(other_api: Api, tenant):
    make_workflow(tenant)
    paths = (PATH, "/api/v1/workflows/unknown/versions/2")
    hidden, unknown = (other_api.put(path, EDITED, YAML, if_match="*") for path in paths)
    assert_problem(hidden, 404, "workflow_not_found")
    assert_same_answer(hidden, unknown)


def test_its_queries_are_counted(api: Api, tenant, django_assert_num_queries):
    make_workflow(tenant)
    make_draft(tenant)
    api.get(PATH)
    with django_assert_num_queries(8):  # the workflow, the draft, its change; 3 audit, 2 of the log
        assert api.put(PATH, EDITED, YAML, if_match="*").status_code == 200
