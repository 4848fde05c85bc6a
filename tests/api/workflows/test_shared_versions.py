"""What a grant on a workflow allows with its versions."""

import pytest

from tests.support.api import YAML, Api, assert_problem, read
from tests.support.factories.members import api_of
from tests.support.factories.rows import HELLO, make_member, make_workflow

VERSIONS = "/api/v1/workflows/hello/versions"
pytestmark = pytest.mark.api


@pytest.fixture
def viewer(tenant) -> Api:
    make_workflow(tenant)
    return api_of(make_member(tenant))


def test_with_write_versions_are_drafted_published_and_rolled_back(api: Api, viewer: Api):
    assert_problem(viewer.post(VERSIONS, HELLO, YAML), 403, "forbidden")
    api.post("/api/v1/workflows/hello/grants", {"role": "viewer", "level": "write"})
    draft = viewer.post(VERSIONS, HELLO, YAML)
    assert draft.status_code == 201
    edited = viewer.put(f"{VERSIONS}/2", HELLO.replace("Greets", "Edits"), YAML, if_match=draft.headers["ETag"])
    assert edited.status_code == 200
    assert read(viewer.post(f"{VERSIONS}/2/publish"))["state"] == "published"
    assert viewer.post(f"{VERSIONS}/1/rollback").status_code == 201
    assert viewer.post(f"{VERSIONS}/3/archive").status_code == 200
    assert_problem(viewer.send("DELETE", "/api/v1/workflows/hello"), 403, "forbidden")


def test_with_run_they_are_only_read(api: Api, viewer: Api, tenant):
    api.post("/api/v1/workflows/hello/grants", {"role": "viewer", "level": "run"})
    assert viewer.get(VERSIONS).status_code == 200
    assert viewer.get(f"{VERSIONS}/diff?from=1&to=1").status_code == 200
    assert_problem(viewer.post(f"{VERSIONS}/1/rollback"), 403, "forbidden")


def test_a_grant_on_one_workflow_is_none_on_another(api: Api, viewer: Api, tenant):
    make_workflow(tenant, HELLO.replace("name: hello", "name: other"))
    api.post("/api/v1/workflows/hello/grants", {"role": "viewer", "level": "write"})
    assert_problem(viewer.post("/api/v1/workflows/other/versions/1/rollback"), 403, "forbidden")
    assert_problem(viewer.post("/api/v1/workflows/unknown/versions/1/rollback"), 403, "forbidden")
